package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Filter narrows [Store.List]. Its zero value lists the newest messages of every state.
type Filter struct {
	States    []outbox.State // any of these; all when empty
	Endpoint  string         // exactly this one; all when empty
	RunID     string         // exactly this one; all when empty
	OlderThan time.Duration  // written at least this long ago
	NewerThan time.Duration  // written at most this long ago; no bound when 0
	Limit     int            // how many at most; ListLimit when 0
	Look      int            // how many messages are looked at, the newest first; all when 0. See [Store.ListPage]
}

// ListLimit is the default of Filter.Limit.
const ListLimit = 100

// List returns messages, the newest first.
func (s *Store) List(ctx context.Context, f Filter) ([]MessageStatus, error) {
	page, err := s.ListPage(ctx, f)
	return page.Messages, err
}

func (s *Store) list(ctx context.Context, f Filter, look looked) ([]MessageStatus, error) {
	where, args, err := f.where(look.most > 0)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	knows, err := s.knowsTenants(ctx)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	args = append(args, orNull(s.tenant))
	where = append(where, ofTenant(tenantColumn(knows, "s.tenant"), fmt.Sprintf("$%d", len(args))))
	args = append(args, f.limit())
	limit := fmt.Sprintf("$%d", len(args))
	from := `outbox.status s`
	if look.most > 0 {
		var among string
		among, args = look.candidates(f, s.tenant, args)
		from = `(` + among + `) c JOIN outbox.status s ON s.id OPERATOR(pg_catalog.=) c.id`
	}
	sql := fmt.Sprintf(`SELECT %s FROM %s WHERE %s ORDER BY s.id DESC LIMIT %s`, statusColumns(s.tables.version.Load()), from, strings.Join(where, " AND "), limit)
	rows, err := s.db.Query(ctx, s.in(sql), args...)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m MessageStatus, err error) {
		err = row.Scan(m.fields()...)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return list, nil
}

func (f Filter) limit() int {
	if f.Limit == 0 {
		return ListLimit
	}
	return f.Limit
}

// where builds the conditions. Besides the state it names the small table of that state, so that a query for dead messages does
// not read all delivered ones.
func (f Filter) where(candidates bool) (conditions []string, args []any, err error) {
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	conditions = []string{"true"}
	if f.Limit < 0 || f.OlderThan < 0 || f.NewerThan < 0 {
		return nil, nil, fmt.Errorf("limit and ages must not be negative")
	}
	states := make([]string, 0, len(f.States)) // of a type that the simple protocol can write
	for _, state := range f.States {
		if !slices.Contains(outbox.States, state) {
			return nil, nil, fmt.Errorf("state %q is none of %v", state, outbox.States)
		}
		states = append(states, string(state))
	}
	if len(states) > 0 {
		conditions = append(conditions, "s.state OPERATOR(pg_catalog.=) ANY ("+arg(states)+"::pg_catalog.text[])")
	}
	if !candidates && within(f.States, outbox.StateDead, outbox.StateCancelled) {
		conditions = append(conditions, "s.id OPERATOR(pg_catalog.=) ANY (SELECT message_id FROM outbox.dead)")
	}
	if !candidates && within(f.States, outbox.StatePending, outbox.StateDelivering, outbox.StateRetrying) {
		conditions = append(conditions, "s.id OPERATOR(pg_catalog.=) ANY (SELECT message_id FROM outbox.due)")
	}
	if f.Endpoint != "" {
		conditions = append(conditions, "s.endpoint OPERATOR(pg_catalog.=) "+arg(f.Endpoint)+"::pg_catalog.text")
	}
	if f.RunID != "" {
		conditions = append(conditions, "s.run_id OPERATOR(pg_catalog.=) "+arg(f.RunID)+"::pg_catalog.text")
	}
	if f.OlderThan > 0 {
		conditions = append(conditions, "s.created_at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) "+arg(f.OlderThan)+"::interval)")
	}
	if f.NewerThan > 0 {
		conditions = append(conditions, "s.created_at OPERATOR(pg_catalog.>=) (pg_catalog.now() OPERATOR(pg_catalog.-) "+arg(f.NewerThan)+"::interval)")
	}
	return conditions, args, nil
}

// within reports whether states is not empty and has only the given ones.
func within(states []outbox.State, some ...outbox.State) bool {
	for _, s := range states {
		if !slices.Contains(some, s) {
			return false
		}
	}
	return len(states) > 0
}
