package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

func TestMain(m *testing.M) { leakcheck.Main(m) }

func TestTheRunEndsWithItsBookingAndItsMessage(t *testing.T) {
	t.Parallel()
	server, err := throwaway.Start(t.Context(), throwaway.Options{Log: t.Logf})
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	pool, err := pgxpool.New(t.Context(), server.URL())
	must(t, err)
	t.Cleanup(pool.Close)
	schema := "riverservice_" + strings.ToLower(rand.Text()[:8])
	must(t, migrations.Up(t.Context(), pool, migrations.Config{Schema: schema}))
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+schema+", "+serviceSchema+" CASCADE")
		must(t, err)
	})
	var out bytes.Buffer
	must(t, run(t.Context(), server.URL(), schema, []string{"https://example.com/hook"}, &out))
	if !strings.Contains(out.String(), "succeeded after step 2: its outcome is on its way\n") {
		t.Errorf("the example printed %q, want that the run succeeded after step 2", out.String())
	}
	var got string
	must(t, pool.QueryRow(t.Context(), `SELECT format('%s %s %s', m.status, m.url, b.item) FROM `+schema+`.message m
JOIN `+schema+`.due d ON d.message_id = m.id JOIN `+serviceSchema+`.booking b ON b.run_id = m.run_id`).Scan(&got))
	if want := "succeeded https://example.com/hook paper"; got != want {
		t.Errorf("the message and the booking are %q, want %q", got, want)
	}
}

func TestTheErrorNamesTheMissingArgument(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{"DATABASE_URL": {"", "https://example.com"}, "callback URL": {"postgres://localhost"}} {
		err := run(t.Context(), args[0], "", args[1:], &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
