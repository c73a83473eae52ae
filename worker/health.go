package worker

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// The health of an endpoint is shared by all workers, in outbox.endpoint. OpenAfter failures in a row open it, as one
// opens a circuit: for OpenFor, and twice as long each time up to OpenForMax, ±20 %, nothing is sent to it. Then a single
// message probes it; an answer closes it, a failure opens it again. Its messages wait meanwhile: they are not claimed,
// and no attempt is counted.

// sick reports an answer that speaks against the endpoint's health: none at all, or a fault of its own. What it refuses,
// and even that it has too much to do, shows that it is there.
func (a answer) sick() bool {
	switch a.class {
	case classDelivered, classBlocked:
		return false
	case classStatus:
		return a.statusCode >= http.StatusInternalServerError
	}
	return true
}

// endpointChange is what a batch of results changed of an endpoint.
type endpointChange struct {
	Endpoint  string
	What      string // opened, closed, paused
	Reason    string
	OpenUntil *time.Time
}

func (c endpointChange) log(ctx context.Context, logger *slog.Logger) {
	level, attrs := slog.LevelWarn, []slog.Attr{slog.String("endpoint", c.Endpoint), slog.String("reason", c.Reason)}
	if c.OpenUntil != nil {
		attrs = append(attrs, slog.Time("open_until", *c.OpenUntil))
	}
	if c.What == "closed" {
		level = slog.LevelInfo
	}
	logger.LogAttrs(ctx, level, "endpoint: "+c.What, attrs...)
}
