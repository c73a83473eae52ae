package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// asideLog tells what claims set aside: a line each, and no more than asideLines a minute. What it leaves out is counted,
// and can be read in the tables dead and endpoint.
type asideLog struct {
	logger *slog.Logger
	minute time.Time // when the present one began
	lines  int       // in it
	more   int       // that were left out in it
}

const (
	asideLines = 30
	asideIDs   = 20 // of messages in one line
)

func (l *asideLog) log(ctx context.Context, all []postgres.Aside, now time.Time) {
	if now.Sub(l.minute) >= time.Minute {
		if l.more > 0 {
			l.logger.ErrorContext(ctx, "more were set aside in the last minute than the log tells", "more", l.more)
		}
		l.minute, l.lines, l.more = now, 0, 0
	}
	for _, a := range all {
		if l.lines++; l.lines > asideLines {
			l.more++
			continue
		}
		attrs := []slog.Attr{slog.String("reason", a.Reason)}
		if a.Endpoint != "" {
			attrs = append(attrs, slog.String("endpoint", a.Endpoint))
		}
		if len(a.IDs) > 0 {
			attrs = append(attrs, slog.Int("messages", len(a.IDs)), slog.Any("ids", a.IDs[:min(len(a.IDs), asideIDs)]))
		}
		level := slog.LevelError
		if a.What == postgres.AsideExpired { // as its writer wanted
			level = slog.LevelWarn
		}
		l.logger.LogAttrs(ctx, level, "set aside: "+a.What, attrs...)
	}
}
