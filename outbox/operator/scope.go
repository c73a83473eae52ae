package operator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// sinceTenants is the first version of the tables with tenants, and with columns that say what holds a message back.
const sinceTenants = 6

// sinceLaneCounts is the first version of the tables whose views count by lane and by tenant within bounds.
const sinceLaneCounts = 10

// ErrNoTenants says that the tables are older than tenants.
var ErrNoTenants = errors.New("the tables know no tenants yet; run 'outbox-worker migrate up'")

// OfTenant returns a store that sees and changes only what belongs to a tenant. Messages of others are not found
// ([ErrNotFound]). It pauses, resumes and limits the lane of the tenant at the endpoint. On tables older than version 6, each
// of its methods returns [ErrNoTenants].
func (s *Store) OfTenant(tenant string) (*Store, error) {
	if err := outbox.CheckTenant(tenant); err != nil {
		return nil, fmt.Errorf("tenant: %w", err)
	}
	if s.tenant != "" && s.tenant != tenant {
		return nil, fmt.Errorf("tenant: the store is that of %s", s.tenant)
	}
	return &Store{db: s.db, schema: s.schema, tenant: tenant, tables: s.tables}, nil
}

// tables is what a store knows of its tables.
type tables struct {
	version atomic.Int64 // never reset: nobody migrates down under a running program
}

// knowsTenants reports whether the tables are of version 6 or later.
func (s *Store) knowsTenants(ctx context.Context) (bool, error) {
	version, err := s.version(ctx)
	if err == nil && version < sinceTenants && s.tenant != "" {
		return false, ErrNoTenants
	}
	return version >= sinceTenants, err
}

// version is the version of the tables. A version older than the newest that this package knows is read again each time: the tables may
// be migrated meanwhile.
func (s *Store) version(ctx context.Context) (version int64, err error) {
	if version = s.tables.version.Load(); version >= sinceLaneCounts {
		return version, nil
	}
	if err := s.db.QueryRow(ctx, s.in(`SELECT outbox.version()`)).Scan(&version); err != nil {
		return 0, fmt.Errorf("version of the tables: %w", err)
	}
	s.tables.version.Store(version)
	return version, nil
}

// since reports whether the tables are of this version or later.
func (s *Store) since(ctx context.Context, version int64) (bool, error) {
	knows, err := s.knowsTenants(ctx) // a tenant's store needs those
	return knows && s.tables.version.Load() >= version, err
}

// ofTenant is the condition that a row is of the tenant in an argument, which is orNull(s.tenant).
func ofTenant(column, arg string) string {
	return fmt.Sprintf(`(%[2]s::pg_catalog.text IS NULL OR %[1]s OPERATOR(pg_catalog.=) %[2]s::pg_catalog.text)`, column, arg)
}

// tenantColumn is NULL on tables that have no such column.
func tenantColumn(knowsTenants bool, column string) string {
	if knowsTenants {
		return column
	}
	return `NULL::pg_catalog.text`
}
