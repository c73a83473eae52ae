package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// MessagePage are messages, and how far back the list looked for them.
type MessagePage struct {
	Messages []MessageStatus
	// Beyond is true when there are older messages that the list did not look at: those written until Since, by their
	// writer's clock. Some of them may match.
	Beyond bool
	Since  time.Time
}

// ListPage returns messages, the newest first. No index has the tenant, the endpoint or the delivered state: where few messages
// match, the list would read all messages ever written. Filter.Look bounds how many it looks at. Where all States are states of due
// messages, it looks at due messages; where they are states of dead ones, at dead ones; and otherwise at all messages. With a bound, ages
// too are by the writers' clocks, with up to an hour of error: a message of a writer that is further off can be missing. A
// run's messages are found by an index, whatever Look is.
func (s *Store) ListPage(ctx context.Context, f Filter) (page MessagePage, err error) {
	if f.Look < 0 {
		return page, fmt.Errorf("list: look is %d; want more than 0, or 0 for all", f.Look)
	}
	var look looked
	if f.Look > 0 && f.RunID == "" {
		if look, err = s.looked(ctx, f); err != nil {
			return page, fmt.Errorf("list: %w", err)
		}
	}
	if page.Messages, err = s.list(ctx, f, look); err != nil || look.most == 0 || len(page.Messages) >= f.limit() {
		return page, err
	}
	var beyond outbox.ID
	err = s.db.QueryRow(ctx, s.in(`SELECT id FROM (`+look.source("$2", "$3")+` OFFSET $1) c LIMIT 1`), look.most, look.from, look.to).Scan(&beyond)
	if errors.Is(err, pgx.ErrNoRows) {
		return page, nil
	}
	if err != nil {
		return page, fmt.Errorf("list: %w", err)
	}
	page.Beyond, page.Since = true, beyond.Time()
	return page, nil
}

// looked is what a list looks at: up to most rows of a table, with ids from one up to another.
type looked struct {
	most     int
	table    string // message, due or dead
	from, to outbox.ID
	tenants  bool // for one tenant
}

// writerSlack is how wrong a writer's clock may be; ids begin with it.
const writerSlack = time.Hour

func (s *Store) looked(ctx context.Context, f Filter) (look looked, err error) {
	look = looked{most: f.Look, table: "message", tenants: s.tenant != ""}
	switch {
	case within(f.States, outbox.StatePending, outbox.StateDelivering, outbox.StateRetrying):
		look.table = "due"
	case within(f.States, outbox.StateDead, outbox.StateCancelled):
		look.table = "dead"
	}
	var now time.Time
	if err := s.db.QueryRow(ctx, `SELECT pg_catalog.now()`).Scan(&now); err != nil {
		return look, err
	}
	look.to = uuid7.Floor(sqltime.Max)
	if f.OlderThan > 0 {
		look.to = uuid7.Floor(now.Add(writerSlack - f.OlderThan))
	}
	if f.NewerThan > 0 {
		look.from = uuid7.Floor(now.Add(-writerSlack - f.NewerThan))
	}
	return look, nil
}

// source are the rows that are looked at, the newest first, with ids between two arguments.
func (l looked) source(from, to string) string {
	columns, id := `id, endpoint`, `id`
	switch {
	case l.tenants && l.table == "message":
		columns = `id, endpoint, tenant`
	case l.table == "due":
		columns, id = `message_id AS id, attempt, attempts_before, locked_until`, `message_id`
	case l.table == "dead":
		columns, id = `message_id AS id, reason`, `message_id`
	}
	return fmt.Sprintf(`SELECT %[1]s FROM outbox.%[2]s WHERE %[3]s OPERATOR(pg_catalog.>=) %[4]s::pg_catalog.uuid AND %[3]s OPERATOR(pg_catalog.<) %[5]s::pg_catalog.uuid ORDER BY %[3]s DESC`,
		columns, l.table, id, from, to)
}

// candidates are the ids among which the list looks. Conditions on the table itself come first, because the view status is slower.
func (l looked) candidates(f Filter, tenant string, args []any) (string, []any) {
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	inner := l.source(arg(l.from), arg(l.to)) + ` LIMIT ` + arg(l.most)
	where := []string{"true"}
	const leased = `l.locked_until OPERATOR(pg_catalog.>) pg_catalog.now()`
	switch {
	case l.table == "due" && within(f.States, outbox.StateDelivering):
		where = append(where, leased)
	case l.table == "due" && within(f.States, outbox.StateRetrying):
		where = append(where, `l.attempt OPERATOR(pg_catalog.>) l.attempts_before`)
	case l.table == "due" && within(f.States, outbox.StatePending):
		where = append(where, `l.attempt OPERATOR(pg_catalog.<=) l.attempts_before`)
	case l.table == "dead" && within(f.States, outbox.StateCancelled):
		where = append(where, `l.reason OPERATOR(pg_catalog.=) 'cancelled'::pg_catalog.text`)
	case l.table == "dead" && within(f.States, outbox.StateDead):
		where = append(where, `l.reason OPERATOR(pg_catalog.<>) 'cancelled'::pg_catalog.text`)
	case within(f.States, outbox.StateDelivered):
		where = append(where, `NOT EXISTS (SELECT FROM outbox.due d WHERE d.message_id OPERATOR(pg_catalog.=) l.id)`,
			`NOT EXISTS (SELECT FROM outbox.dead x WHERE x.message_id OPERATOR(pg_catalog.=) l.id)`)
	}
	message := func(column, value string) {
		condition := column + ` OPERATOR(pg_catalog.=) ` + arg(value) + `::pg_catalog.text`
		if l.table != "message" {
			condition = `EXISTS (SELECT FROM outbox.message m WHERE m.id OPERATOR(pg_catalog.=) l.id AND m.` + condition + `)`
		}
		where = append(where, condition)
	}
	if tenant != "" {
		message("tenant", tenant)
	}
	if f.Endpoint != "" {
		message("endpoint", f.Endpoint)
	}
	return `SELECT l.id FROM (` + inner + `) l WHERE ` + strings.Join(where, " AND "), args
}
