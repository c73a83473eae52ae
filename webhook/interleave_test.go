package webhook_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// TestOnlyOneOfTwoHandlersTakesOverAnExpiredClaim: both have read that it has expired before one of them takes it.
func TestOnlyOneOfTwoHandlersTakesOverAnExpiredClaim(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	s := newPostgres(t, db, "pgx", time.Hour)
	conn := open(t, db, "pgx")
	abandoned := claim(t, s, "id", webhook.First)
	execute(t, conn, `UPDATE %s."order" SET claimed_until = clock_timestamp()`, db.Schema)
	hold, err := conn.BeginTx(t.Context(), nil)
	must(t, err)
	defer func() { _ = hold.Rollback() }()
	_, err = hold.ExecContext(t.Context(), `SELECT FROM `+db.Schema+`."order" FOR UPDATE`)
	must(t, err)
	claims := make(chan webhook.Claim, 2)
	for range 2 {
		go func() {
			c, err := s.Claim(t.Context(), "id")
			if err != nil {
				t.Error(err)
			}
			claims <- c
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for waiting := 0; waiting < 2; { // both wait for the row's lock after they have read the row
		must(t, conn.QueryRowContext(ctx, `SELECT count(*) FROM pg_sleep(0.01), pg_stat_activity
WHERE wait_event_type = 'Lock' AND strpos(query, $1) > 0`, db.Schema).Scan(&waiting))
	}
	must(t, hold.Rollback())
	first, second := <-claims, <-claims
	if first.State != webhook.First {
		first, second = second, first
	}
	if first.State != webhook.First || second.State != webhook.InProgress {
		t.Fatalf("the claims are %+v and %+v, want one first and one in progress", first, second)
	}
	must(t, s.Finish(t.Context(), abandoned, false)) // its token is no longer that of the row
	claim(t, s, "id", webhook.InProgress)
	must(t, s.Finish(t.Context(), first, false))
	claim(t, s, "id", webhook.First)
}

// slow is a store whose answers take some time.
type slow struct {
	webhook.Store
	takes    time.Duration
	finished func(ctx context.Context)
}

func (s slow) Claim(ctx context.Context, id string) (webhook.Claim, error) {
	time.Sleep(s.takes)
	return s.Store.Claim(ctx, id)
}

func (s slow) Finish(ctx context.Context, c webhook.Claim, processed bool) error {
	s.finished(ctx)
	return s.Store.Finish(ctx, c, processed)
}

// TestAHandlersTimeIsCountedFromBeforeItsClaim: a store that answers slowly may have begun the lease early. The call of Finish
// has five seconds of its own, independent of the request's context.
func TestAHandlersTimeIsCountedFromBeforeItsClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lease, takes = time.Minute, 20 * time.Second
		key := generate(t, webhook.HMAC)
		memory := newMemory(t, webhook.MemoryConfig{Lease: lease})
		called := false
		store := slow{memory, takes, func(ctx context.Context) {
			called = true
			until, ok := ctx.Deadline()
			if left := time.Until(until); ctx.Err() != nil || !ok || left != 5*time.Second {
				t.Errorf("Finish has %v, %v, with the context error %v; want 5 s and none", left, ok, ctx.Err())
			}
		}}
		ctx, hangUp := context.WithCancel(t.Context())
		next := func(_ http.ResponseWriter, r *http.Request) {
			until, ok := r.Context().Deadline()
			if left := time.Until(until); !ok || left != lease-takes {
				t.Errorf("the handler has %v, %v; want %v", left, ok, lease-takes)
			}
			hangUp() // the end of the sender's context must not end the store's
		}
		handler, err := webhook.NewHandler(http.HandlerFunc(next), webhook.HandlerConfig{
			Verifier: webhook.Verifier{Keys: webhook.Keys{key}}, Store: store,
		})
		must(t, err)
		q := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader("x"))
		for name, values := range signed(webhook.Keys{key}, "id", time.Now(), []byte("x")) {
			q.Header[name] = values
		}
		handler.ServeHTTP(httptest.NewRecorder(), q)
		if !called {
			t.Error("Finish was not called, want that it is")
		}
	})
}
