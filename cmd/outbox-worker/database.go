package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/session"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
	"github.com/seed-abbacb8b/epilogue/worker"
)

// connections is what a command needs of its pool.
type connections struct {
	usual   int32         // how many at most, unless pool_max_conns in the URL says otherwise
	least   int32         // a lower bound on that, whatever the URL says
	timeout time.Duration // to connect, unless connect_timeout in the URL says otherwise; pgxpool's when 0

	// The bounds of the server on a session. With them the sessions are set up here (package session). Without them, the user
	// of the pool does so: the worker and the migrations open connections of their own.
	bounds []session.Setting
}

// workerConnections leave a worker some room above what it needs.
func workerConnections() connections {
	return connections{usual: worker.ConnsMin + 4, least: worker.ConnsMin}
}

// operatorConnections are for one waiting person: a migration holds its lock on one and works on the other. A command does not
// wait long for a host that does not answer, nor for a row that is locked. A command that is stopped in its transaction does
// not keep its locks.
func operatorConnections() connections {
	return connections{
		usual: 2, least: 2, timeout: 10 * time.Second,
		// Their statements are not worth compiling.
		bounds: append(session.Timeouts(2*time.Minute, 10*time.Second, time.Minute), session.Setting{Name: "jit", Value: "off"}),
	}
}

// connect makes the pool, which close closes. It does not wait for the database.
func (p *program) connect(ctx context.Context, s settings, n connections) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(string(s.DatabaseURL))
	if err != nil {
		return nil, fmt.Errorf("OUTBOX_DATABASE_URL cannot be read") // unreachable: it was read when it was loaded
	}
	if !strings.Contains(string(s.DatabaseURL), "pool_max_conns") {
		config.MaxConns = n.usual
	}
	config.MaxConns = max(config.MaxConns, n.least)
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "outbox-worker"
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = n.timeout
	}
	if n.bounds != nil {
		session.Pin(config, session.Pooler(s.Pooler), n.bounds...)
	}
	p.pool, err = pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening the pool of connections: %w", err)
	}
	return p.pool, nil
}

// database connects for a command that needs no more than the database, and returns the schema's name.
func (p *program) database(ctx context.Context) (*pgxpool.Pool, string, error) {
	c, err := p.load(databaseVariables()...)
	if err != nil {
		return nil, "", err
	}
	p.pooler = session.Pooler(c.settings.Pooler)
	pool, err := p.connect(ctx, c.settings, operatorConnections())
	return pool, c.settings.inForce().Schema, err
}

// store connects and checks that this program works on the schema.
func (p *program) store(ctx context.Context) (*operator.Store, error) {
	pool, schema, err := p.database(ctx)
	if err != nil {
		return nil, err
	}
	if err := migrations.Check(ctx, pool, migrations.Config{Schema: schema}); err != nil {
		return nil, err
	}
	db, err := p.db(ctx)
	if err != nil {
		return nil, err
	}
	return operator.NewStore(db, schema)
}

// db is the pool, or its replacement where a pooler lends a session for one transaction only.
func (p *program) db(ctx context.Context) (outbox.DB, error) {
	pooled, err := session.Pooled(ctx, p.pool, p.pooler)
	if err != nil {
		return nil, err
	}
	if pooled {
		return session.Transactions(p.pool, operatorConnections().bounds...), nil
	}
	return p.pool, nil
}

// now reads the clock of the database, which ages, leases and due times are compared with.
func (p *program) now(ctx context.Context) (time.Time, error) {
	db, err := p.db(ctx)
	if err != nil {
		return time.Time{}, err
	}
	var now time.Time
	if err := db.QueryRow(ctx, "SELECT pg_catalog.now()").Scan(&now); err != nil {
		return now, fmt.Errorf("reading the database's clock: %w", err)
	}
	return now, nil
}
