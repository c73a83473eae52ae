package operator

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
)

// Hold says why a due message is not tried. All its fields are nil when nothing holds it back, and on tables older than version 6.
type Hold struct {
	HeldBy     *string    `json:"held_by"`     // one of the constants HeldBy…
	HeldScope  *string    `json:"held_scope"`  // what is held back: endpoint, tenant (at the endpoint), URL; or message
	HeldReason *string    `json:"held_reason"` // as the operator or the worker gave it
	HeldSince  *time.Time `json:"held_since"`  // nil where that is not known
	HeldUntil  *time.Time `json:"held_until"`  // nil: until an operator resumes it
}

// What can hold a message back.
const (
	HeldByPause      = "paused"          // an operator, or the worker after a refusal of the database
	HeldByBreaker    = "circuit breaker" // it failed too often in a row
	HeldByRetryAfter = "Retry-After"     // the receiver asked for it
	HeldByRate       = "rate"            // the limit that an operator set; HeldUntil is when it allows the next request
	HeldByWorker     = "worker"          // it lacks what the reason names: a signing key, its proxy
)

func (h *Hold) fields() []any {
	return []any{&h.HeldBy, &h.HeldScope, &h.HeldReason, &h.HeldSince, &h.HeldUntil}
}

// holdColumns are the columns for a message, of the view outbox.status as s.
var holdColumns = `s.held_by, s.held_scope, s.held_reason, ` + sqltime.Bounded("s.held_since") + `, ` + sqltime.Bounded("s.held_until")

// noHold replaces them on tables that lack these columns.
const noHold = `NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.timestamptz, NULL::pg_catalog.timestamptz`

// holdColumnsOf are the columns for a lane: of the holds on the lane and on the lanes above it, the one that lasts longest.
func holdColumnsOf(lane string) string {
	columns := []string{"h.held_by", "h.scope", "h.reason", sqltime.Bounded("h.since"),
		`CASE WHEN h.until OPERATOR(pg_catalog.<) 'infinity'::pg_catalog.timestamptz THEN ` + sqltime.Bounded("h.until") + ` END`}
	for i, column := range columns {
		columns[i] = fmt.Sprintf(`(SELECT %s FROM outbox.hold h WHERE h.lane OPERATOR(pg_catalog.=) ANY (outbox.lanes_over(%s)) ORDER BY h.until DESC, h.lane LIMIT 1)`,
			column, lane)
	}
	return strings.Join(columns, ", ")
}
