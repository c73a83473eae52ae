package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestStatementsWorkInEveryModeAndSearchPath: in the modes of pgx that work through a pooler in transaction mode, and with any
// search path.
func TestStatementsWorkInEveryModeAndSearchPath(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*pgxpool.Config){
		"exec":            func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec },
		"simple protocol": func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol },
		"no search path":  func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["search_path"] = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			pool := r.NewPool(t, change)
			r.history("delivered", 1, time.Minute)
			p := r.pruner(pool, 0, 0)
			if n, more, err := p.Prune(t.Context()); err != nil || more || n.Delivered != 1 {
				t.Errorf("pruned %+v, more: %v, %v; want one delivered message, and no more", n, more, err)
			}
			if err := errors.Join(p.PruneEndpoints(t.Context()), p.PruneOrphans(t.Context())); err != nil {
				t.Error(err)
			}
			ids := []outbox.ID{r.writeTo("https://a.test/hook", "delivered"), r.writeTo("https://b.test/hook", "gone")}
			r.exec(`INSERT INTO outbox.endpoint (endpoint, rate_per_second, max_in_flight, granted_at, reason) VALUES ('https://a.test', 2.5, 3, now() - interval '1 h', '')`)
			s := NewScanner(Direct(pool), r.Schema, nil)
			if recent, err := s.Recent(t.Context(), time.Hour); err != nil || len(recent.Candidates) != 2 {
				t.Errorf("a recent scan finds %v, %v; want both endpoints", recent, err)
			}
			scan, err := s.Full(t.Context(), "")
			full := scan.Candidates
			if err != nil || len(full) != 2 || scan.Took < 0 || time.Since(scan.Clock).Abs() > time.Minute {
				t.Fatalf("a full scan finds %v, %v; want both endpoints", full, err)
			}
			claimer := r.claimerOn(pool, "one")
			claimer.since = time.Now().Add(-time.Minute)
			claimed, err := claimer.Claim(t.Context(), Order{
				Most: 10, Turns: []Turn{{full[0].Endpoint, full[0].Since, 3}}, Recent: 5, Except: []string{"https://c.test"},
			})
			messages := claimed.Messages
			if err != nil || len(messages) != 2 || len(claimed.Left) != 0 || len(claimed.Aside) != 0 {
				t.Fatalf("%d messages claimed, %v left, %v set aside, %v; want both claimed", len(messages), claimed.Left, claimed.Aside, err)
			}
			var batch []Result
			for _, m := range messages {
				if limits := m.Endpoint == "https://a.test"; (m.Rate == 2.5) != limits || (m.OriginMax == 3) != limits {
					t.Errorf("%s: the limits are %v per second and %d in flight, want those of a.test only", m.Endpoint, m.Rate, m.OriginMax)
				}
				if body, err := NewLoader(Direct(pool), r.Schema).Load(t.Context(), m.ID); err != nil || string(body) != string(m.Body) {
					t.Errorf("loaded %q, want %q: %v", body, m.Body, err)
				}
				batch = append(batch, results(m)[m.RunID])
			}
			if changes, err := r.recorderOn(pool, "one").Record(t.Context(), batch); err != nil || len(changes) != 1 {
				t.Fatalf("the record changed %v, %v; want one endpoint", changes, err)
			}
			if tried, err := r.recorderOn(pool, "one").TryRecord(t.Context(), batch, false); err != nil || tried.Recorded+len(tried.Held) > 0 {
				t.Errorf("the second record returns %+v, %v; want nothing recorded and nothing held", tried, err)
			}
			if _, err := r.recorderOn(pool, "one").Holders(t.Context(), batch); err != nil {
				t.Error(err)
			}
			failed := Result{ID: ids[0], Endpoint: "https://c.test", Action: ActionRetry, Class: "timeout", Says: []Saying{{Lane: "https://c.test", Failures: 1}}}
			if changes, err := r.recorderOn(pool, "one").PauseRefused(t.Context(), failed, "SQLSTATE 23514"); err != nil || len(changes) != 0 {
				t.Errorf("PauseRefused changed %v, %v; want nothing while the database accepts the endpoint's row", changes, err)
			}
			r.exec(`ALTER TABLE outbox.endpoint ADD CONSTRAINT no_failures CHECK (failures = 0) NOT VALID`)
			if changes, err := r.recorderOn(pool, "one").PauseRefused(t.Context(), failed, "SQLSTATE 23514"); err != nil || len(changes) != 1 {
				t.Errorf("PauseRefused changed %v, %v; want one endpoint paused", changes, err)
			}
			for i, want := range []outbox.State{outbox.StateDelivered, outbox.StateDead} {
				if d := r.state(ids[i]); d.State != want {
					t.Errorf("the message is %s, want %s", d.State, want)
				}
			}
		})
	}
}

// TestSettingsOfAClaimEndWithItsTransaction: the application may use the same pool.
func TestSettingsOfAClaimEndWithItsTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pool := r.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	settings := func() (all string) {
		t.Helper()
		err := pool.QueryRow(t.Context(), `SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
WHERE name IN ('synchronous_commit', 'plan_cache_mode', 'enable_seqscan', 'enable_bitmapscan', 'enable_sort', 'jit')`).Scan(&all)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := settings()
	if _, err := r.claimerOn(pool, "one").Claim(t.Context(), Order{Most: 1}); err != nil {
		t.Fatal(err)
	}
	if after := settings(); after != before {
		t.Errorf("the settings after a claim differ: %s\nbefore: %s", after, before)
	}
}

// TestTheErrorOfAnOperationThatTookTooLongSaysSo. When the caller's context has ended, the error is that of the context.
func TestTheErrorOfAnOperationThatTookTooLongSaysSo(t *testing.T) {
	t.Parallel()
	err := within(t.Context(), "claim", time.Nanosecond, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "claim: took longer than 1ns: ") {
		t.Errorf("within returns %v, want DeadlineExceeded that says it took longer", err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	err = within(stopped, "claim", time.Hour, func(ctx context.Context) error { return ctx.Err() })
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "longer") {
		t.Errorf("within returns %v, want Canceled without a duration", err)
	}
}
