package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// asideLog logs what claims set aside: a line each, and at most asideLines a minute. What it leaves out is counted,
// and stands in the tables dead and endpoint.
type asideLog struct {
	logger *slog.Logger
	minute time.Time // when the current minute began
	lines  int       // in the current minute
	more   int       // lines left out in the current minute
}

const (
	asideLines = 30
	asideIDs   = 20 // of messages in one line
)

func (l *asideLog) log(ctx context.Context, all []postgres.Aside, now time.Time) {
	if now.Sub(l.minute) >= time.Minute {
		if l.more > 0 {
			l.logger.ErrorContext(ctx, "more was set aside in the last minute than is logged", "more", l.more)
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
