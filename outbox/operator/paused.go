package operator

import (
	"context"
	"fmt"

	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// PausedMessages are messages that wait for an operator to resume something.
type PausedMessages struct {
	Scope    string // what is paused: endpoint, tenant (at the endpoint) or URL
	Endpoint string
	Tenant   *string
	Messages int64
}

// PausedAmong returns which of these messages are due and wait behind a pause. On tables older than version 6 it finds none.
func (s *Store) PausedAmong(ctx context.Context, ids []outbox.ID) ([]PausedMessages, error) {
	knows, err := s.knowsTenants(ctx)
	if err != nil || !knows {
		return nil, err
	}
	list, err := collect[PausedMessages](ctx, s, "paused", `SELECT s.held_scope, s.endpoint, s.tenant, pg_catalog.count(*) FROM outbox.status s
WHERE s.id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.uuid[]) AND s.held_by OPERATOR(pg_catalog.=) 'paused'::pg_catalog.text
  AND `+ofTenant("s.tenant", "$2")+`
GROUP BY 1, 2, 3 ORDER BY 2, 3, 1`, uuid7.Texts(ids), orNull(s.tenant))
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return list, nil
}
