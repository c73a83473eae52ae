package orms

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/seed-abbacb8b/epilogue/examples/orms/ent"
	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outboxtest"
)

// TestMain starts a server for the tests. It does not check for leaked goroutines, because GORM leaks one for each pool.
func TestMain(m *testing.M) {
	server, err := throwaway.Start(context.Background(), throwaway.Options{})
	if err == nil {
		err = os.Setenv(throwaway.URLVariable, server.URL())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// acknowledgers returns a function for each of the four libraries, and two for GORM, all on the same database.
func acknowledgers(t *testing.T, db *sql.DB) map[string]func(context.Context, hook.TerminalHook, outbox.RunOutcome) error {
	t.Helper()
	open := func(prepare bool) *gorm.DB {
		g, err := gorm.Open(postgres.New(postgres.Config{Conn: db}), &gorm.Config{PrepareStmt: prepare})
		must(t, err)
		return g
	}
	plain, prepared := open(false), open(true)
	client := ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, db)))
	b, x := bun.NewDB(db, pgdialect.New()), sqlx.NewDb(db, "pgx")
	return map[string]func(context.Context, hook.TerminalHook, outbox.RunOutcome) error{
		"GORM": func(ctx context.Context, h hook.TerminalHook, o outbox.RunOutcome) error {
			return AcknowledgeGORM(ctx, plain, h, o)
		},
		"GORM with PrepareStmt": func(ctx context.Context, h hook.TerminalHook, o outbox.RunOutcome) error {
			return AcknowledgeGORM(ctx, prepared, h, o)
		},
		"ent": func(ctx context.Context, h hook.TerminalHook, o outbox.RunOutcome) error {
			return AcknowledgeEnt(ctx, client, h, o)
		},
		"bun": func(ctx context.Context, h hook.TerminalHook, o outbox.RunOutcome) error {
			return AcknowledgeBun(ctx, b, h, o)
		},
		"sqlx": func(ctx context.Context, h hook.TerminalHook, o outbox.RunOutcome) error {
			return AcknowledgeSQLX(ctx, x, h, o)
		},
	}
}

func TestTheOutcomeIsCommittedWithTheStepOrNeitherIs(t *testing.T) {
	d := testdb.New(t)
	config := d.Pool.Config().ConnConfig.Copy()
	config.RuntimeParams["search_path"] = d.Schema // the table of the service is there, too
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { must(t, db.Close()) })
	_, err := db.Exec(`CREATE TABLE steps (id serial PRIMARY KEY, run_id text UNIQUE NOT NULL, state text NOT NULL DEFAULT 'ready')`)
	must(t, err)
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: d.Schema, TenantHeader: "tenant"})
	must(t, err)
	box := outboxtest.In(t, d.Schema)
	for name, acknowledge := range acknowledgers(t, db) {
		for _, run := range []string{name + " ascii", name + " nicht ascii: ü 🎉"} { // the header of the second one is sent as bytes
			_, err := db.Exec(`INSERT INTO steps (run_id) VALUES ($1)`, run)
			must(t, err)
			outcome := testdb.Outcome(run, "https://receiver.example/hook")
			outcome.Headers["tenant"] = "acme"
			if err := acknowledge(t.Context(), failing{terminal}, outcome); !errors.Is(err, errFails) {
				t.Errorf("%s: with a hook that fails, the error is %v, want %v", name, err, errFails)
			}
			box.RequireMessages(d.Pool, run, 0)
			must(t, acknowledge(t.Context(), terminal, outcome))
			box.RequireMessages(d.Pool, run, 1)
			if err := acknowledge(t.Context(), terminal, outcome); !errors.Is(err, errNotReady) {
				t.Errorf("%s: a second acknowledgement returns %v, want %v", name, err, errNotReady)
			}
		}
	}
}

func TestAPoolOfALibraryIsNotATransaction(t *testing.T) {
	d := testdb.New(t)
	db, err := sql.Open("pgx", d.URL)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: d.Schema})
	must(t, err)
	prepared, err := gorm.Open(postgres.New(postgres.Config{Conn: db}), &gorm.Config{PrepareStmt: true})
	must(t, err)
	for name, pool := range map[string]outbox.ExecContexter{
		"database/sql": db, "GORM": prepared.Statement.ConnPool, "sqlx": sqlx.NewDb(db, "pgx"), "bun": bun.NewDB(db, pgdialect.New()),
		"ent": ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, db))),
	} {
		err := terminal.OnTermination(t.Context(), outbox.ExecTx(pool), testdb.Outcome("run", "https://receiver.example/hook"))
		if !errors.Is(err, outbox.ErrTransaction) {
			t.Errorf("%s: the error is %v, want %v", name, err, outbox.ErrTransaction)
		}
	}
	outboxtest.In(t, d.Schema).RequireMessages(d.Pool, "run", 0)
}

// failing writes, and then fails, so that its write must be rolled back.
type failing struct{ hook.TerminalHook }

var errFails = errors.New("it fails")

func (f failing) OnTermination(ctx context.Context, tx outbox.Tx, o outbox.RunOutcome) error {
	return errors.Join(f.TerminalHook.OnTermination(ctx, tx, o), errFails)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
