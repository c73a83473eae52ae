package stand

import (
	"strings"

	"github.com/seed-abbacb8b/epilogue/internal/logtail"
)

// workerLog keeps the end of a worker's log, and sees when it works.
type workerLog struct {
	*logtail.Tail
	ready chan struct{} // closed by the first line that says so
}

// readyLine is in what worker.Run logs once it claims.
const readyLine = " msg=working "

func newWorkerLog() workerLog {
	ready, told := make(chan struct{}), false
	return workerLog{ready: ready, Tail: logtail.New(func(line string) {
		if !told && strings.Contains(line, readyLine) {
			told = true
			close(ready)
		}
	})}
}
