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

// TestOfTwoThatTakeOverOneExpiredClaimOneIsTheFirst: both have seen that it has expired, and none has taken it yet.
func TestOfTwoThatTakeOverOneExpiredClaimOneIsTheFirst(t *testing.T) {
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
	for waiting := 0; waiting < 2; { // for the row: they have read it
		must(t, conn.QueryRowContext(ctx, `SELECT count(*) FROM pg_sleep(0.01), pg_stat_activity
WHERE wait_event_type = 'Lock' AND strpos(query, $1) > 0`, db.Schema).Scan(&waiting))
	}
	must(t, hold.Rollback())
	first, second := <-claims, <-claims
	if first.State != webhook.First {
		first, second = second, first
	}
	if first.State != webhook.First || second.State != webhook.InProgress {
		t.Fatalf("%+v and %+v", first, second)
	}
	must(t, s.Finish(t.Context(), abandoned, false)) // its token is not the row's any more
	claim(t, s, "id", webhook.InProgress)
	must(t, s.Finish(t.Context(), first, false))
	claim(t, s, "id", webhook.First)
}

// slow is a store whose answers take a while.
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

// TestAHandlersTimeIsCountedFromBeforeItsClaim: the store may have claimed at the beginning of a slow answer. What tells the
// store of the end has five seconds of its own, and none of the request's.
func TestAHandlersTimeIsCountedFromBeforeItsClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lease, takes = time.Minute, 20 * time.Second
		key := generate(t, webhook.HMAC)
		memory := newMemory(t, webhook.MemoryConfig{Lease: lease})
		told := false
		store := slow{memory, takes, func(ctx context.Context) {
			told = true
			until, ok := ctx.Deadline()
			if left := time.Until(until); ctx.Err() != nil || !ok || left != 5*time.Second {
				t.Errorf("Finish has %v, %v; %v", left, ok, ctx.Err())
			}
		}}
		ctx, hangUp := context.WithCancel(t.Context())
		next := func(_ http.ResponseWriter, r *http.Request) {
			until, ok := r.Context().Deadline()
			if left := time.Until(until); !ok || left != lease-takes {
				t.Errorf("the handler has %v, %v; want %v", left, ok, lease-takes)
			}
			hangUp() // the sender's context is not the store's
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
		if !told {
			t.Error("the store was not told of the end")
		}
	})
}
