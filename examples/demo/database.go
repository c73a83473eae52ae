package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// database is where the demo takes place.
type database struct {
	server        *throwaway.Server
	pool          *pgxpool.Pool // the demo's own, for its queries
	outboxSchema  string
	serviceSchema string // of the service's own tables
}

// openDatabase finds or starts a server. On one that is not ours, the demo has schemas of its own that nobody else has.
func (d *demo) openDatabase(ctx context.Context) error {
	server, err := throwaway.Start(ctx, throwaway.Options{
		Install: true, Log: func(format string, args ...any) { d.story.part("database", format, args...) },
	})
	if err != nil {
		return err
	}
	d.later(func(context.Context) error { return server.Stop() })
	d.database = database{server: server, outboxSchema: outbox.DefaultSchema, serviceSchema: "demo"}
	if !server.Owned() {
		name := "epilogue_demo_" + strings.ToLower(rand.Text()[:6])
		d.outboxSchema, d.serviceSchema = name+"_outbox", name
		if !d.options.keep {
			d.guard.tell("schemas %s %s", d.outboxSchema, d.serviceSchema)
			d.later(d.dropOurs)
		}
	}
	d.pool, err = pgxpool.New(ctx, server.URL())
	if err != nil {
		return err
	}
	d.later(func(context.Context) error { d.pool.Close(); return nil })
	return nil
}

// dropOurs removes the demo's schemas from a server that is not ours.
func (d *demo) dropOurs(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, d.server.URL())
	if err != nil {
		return err
	}
	defer pool.Close()
	return dropSchemas(ctx, pool, []string{d.outboxSchema, d.serviceSchema})
}

// execer is a connection or a pool.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func dropSchemas(ctx context.Context, db execer, schemas []string) error {
	for _, schema := range schemas {
		if _, err := db.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE"); err != nil {
			return fmt.Errorf("drop schema %s: %w", schema, err)
		}
	}
	return nil
}

// in writes the schemas' names into SQL that names the default ones.
func (db database) in(sql string) string {
	return strings.NewReplacer("outbox.", db.outboxSchema+".", "demo.", db.serviceSchema+".").Replace(sql)
}
