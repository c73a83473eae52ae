package overlap_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// TestTwoVersionsWorkOnOneSchema upgrades in both orders, under load, with the migration in between. No message is lost, none
// is stuck, and a run that an old and a new writer end at the same time makes one message.
func TestTwoVersionsWorkOnOneSchema(t *testing.T) {
	t.Parallel()
	older, newer := build(t)
	t.Run("the schema is upgraded first", func(t *testing.T) {
		s := newStand(t, older)
		oldWorker, oldWriter := s.worker(older), s.writer(older)
		s.delivers(100)
		s.invoke(newer, "migrate", "up")
		s.delivers(400) // the old worker continues on the new tables
		s.invoke(older, "status")
		newWorker, newWriter := s.worker(newer), s.writer(newer)
		s.delivers(100)
		oldWriter.ends()
		oldWorker.ends()
		s.delivers(400)
		newWriter.ends()
		s.settles()
		newWorker.ends()
	})
	t.Run("the programs are upgraded first", func(t *testing.T) {
		s := newStand(t, older)
		oldWorker, oldWriter := s.worker(older), s.writer(older)
		s.delivers(100)
		newWorker, newWriter := s.worker(newer), s.writer(newer) // they work on the old tables
		s.delivers(100)
		oldWorker.ends()
		s.delivers(100)
		s.invoke(newer, "status")
		s.invoke(newer, "migrate", "up")
		s.delivers(400)
		oldWriter.ends()
		newWriter.ends()
		s.settles()
		newWorker.ends()
	})
	t.Run("an event waits for a worker that knows events", func(t *testing.T) { anEventWaits(t, older, newer) })
}

// stand is a schema, an application in the same database, and a receiver.
type stand struct {
	*testing.T
	db       *testdb.DB
	app      string
	receiver *receiver
}

func newStand(t *testing.T, migrator programs) stand {
	t.Helper()
	s := stand{T: t, db: testdb.NewEmpty(t), app: testdb.NewEmpty(t).Schema, receiver: newReceiver(t)}
	s.invoke(migrator, "migrate", "up")
	s.exec("CREATE SCHEMA " + s.app)
	s.exec("CREATE SEQUENCE " + s.app + ".number")
	s.exec("CREATE TABLE " + s.app + ".ack (run text NOT NULL)")
	return s
}

func (s stand) exec(sql string) {
	s.Helper()
	if _, err := s.db.Pool.Exec(s.Context(), sql); err != nil {
		s.Fatal(err)
	}
}

func (s stand) list(sql string) []string {
	s.Helper()
	sql = strings.NewReplacer("outbox.", s.db.Schema+".", "app.", s.app+".").Replace(sql)
	rows, err := s.db.Pool.Query(s.Context(), sql)
	if err != nil {
		s.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.Fatal(err)
	}
	return list
}

func (s stand) environ() []string {
	return []string{
		"OUTBOX_DATABASE_URL=" + s.db.URL, "OUTBOX_SCHEMA=" + s.db.Schema, "OUTBOX_ADMIN_ADDR=off", "OUTBOX_ALLOW_HTTP=true",
		"OUTBOX_ALLOWED_CIDRS=127.0.0.0/8", "OUTBOX_POLL_INTERVAL=100ms", "OUTBOX_LOG_LEVEL=warn", "OUTBOX_RETRY_SCHEDULE=100ms,100ms,100ms,100ms,1s,1s,5s",
		"OVERLAP_URL=" + s.db.URL, "OVERLAP_SCHEMA=" + s.db.Schema, "OVERLAP_APP=" + s.app, "OVERLAP_RECEIVER=" + s.receiver.URL,
	}
}

func (s stand) invoke(p programs, args ...string) {
	s.Helper()
	cmd := exec.CommandContext(s.Context(), p.worker, args...)
	cmd.Env = append(cmd.Environ(), s.environ()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("%v: %v: %s", args, err, out)
	}
}

// process is a worker or a writer.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	said  *bytes.Buffer
}

func (s stand) worker(p programs) process { return s.start(exec.Command(p.worker, "run")) }
func (s stand) writer(p programs) process { return s.start(exec.Command(p.writer)) }

func (s stand) start(cmd *exec.Cmd) process {
	s.Helper()
	p := process{s.T, cmd, nil, &bytes.Buffer{}}
	cmd.Env = append(cmd.Environ(), s.environ()...)
	cmd.Stdout, cmd.Stderr = p.said, p.said
	var err error
	if p.stdin, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = cmd.Process.Kill() })
	return p
}

// ends stops the process gracefully: a worker by its signal, a writer by its stdin. Neither may have logged a warning.
func (p process) ends() {
	p.t.Helper()
	_ = p.stdin.Close()
	if strings.HasSuffix(p.cmd.Path, "outbox-worker") {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	err := p.cmd.Wait()
	said := slices.DeleteFunc(strings.Split(strings.TrimSpace(p.said.String()), "\n"), func(line string) bool {
		return line == "" || strings.Contains(line, "messages are sent unsigned")
	})
	if err != nil || len(said) > 0 {
		p.t.Errorf("%s ended with %v, want nil, and logged what it should not:\n%s", p.cmd.Path, err, strings.Join(said, "\n"))
	}
}

// stepMax bounds the wait for the next step, which takes far less.
const stepMax = time.Minute

// delivers waits until the given number of messages more have arrived.
func (s stand) delivers(more int) {
	s.Helper()
	want := s.receiver.count() + more
	for deadline := time.Now().Add(stepMax); s.receiver.count() < want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("%d of %d messages arrived within %v", s.receiver.count(), want, stepMax)
		}
	}
}

// settles waits until nothing is due. It then compares the acknowledged runs with the messages, and with those that arrived.
func (s stand) settles() {
	s.Helper()
	for deadline := time.Now().Add(stepMax); ; time.Sleep(50 * time.Millisecond) {
		due := s.list("SELECT message_id::text || ' ' || attempt || ' ' || due_at FROM outbox.due")
		if len(due) == 0 {
			break
		}
		if time.Now().After(deadline) {
			s.Fatalf("%d messages are stuck: %.2000v", len(due), due)
		}
	}
	acked := s.list("SELECT DISTINCT run FROM app.ack ORDER BY 1")
	written := s.list("SELECT run_id::text FROM outbox.message ORDER BY 1") // a run with two messages was not deduplicated
	s.same("acknowledged", acked, "written", written)
	s.same("written", s.list("SELECT id::text FROM outbox.message WHERE endpoint <> '' ORDER BY 1"), "arrived", s.receiver.ids())
	s.same("written without a URL", s.list("SELECT id::text FROM outbox.message WHERE endpoint = '' ORDER BY 1"),
		"dead", s.list("SELECT message_id::text FROM outbox.dead WHERE reason = 'invalid' ORDER BY 1"))
	if lost := s.list("SELECT message_id::text FROM outbox.attempt WHERE class = 'lost'"); len(lost) > 0 {
		s.Errorf("%d attempts are lost", len(lost))
	}
	if n := len(s.list("SELECT run FROM app.ack WHERE run LIKE 'twice-%' GROUP BY run HAVING count(*) = 2")); n < 50 {
		s.Errorf("only %d runs were ended twice", n)
	}
	s.Logf("%d runs, %d messages arrived", len(acked), len(s.receiver.ids()))
}

func (s stand) same(what string, list []string, other string, others []string) {
	s.Helper()
	slices.Sort(list)
	slices.Sort(others)
	if !slices.Equal(list, others) {
		s.Errorf("%s are %d, %s are %d", what, len(list), other, len(others))
	}
}

// receiver counts the messages that arrive. It refuses the first attempt of one message in sixteen, so that there are
// retries, too.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	refused  map[string]bool
	accepted map[string]int
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{refused: map[string]bool{}, accepted: map[string]int{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.answer))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answer(w http.ResponseWriter, request *http.Request) {
	id := request.Header.Get("webhook-id")
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasSuffix(id, "7") && !r.refused[id] {
		r.refused[id] = true
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.accepted[id]++
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.accepted)
}

func (r *receiver) ids() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.accepted {
		ids = append(ids, id)
	}
	return ids
}
