package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// stores are the stores with which every test of deduplication runs.
var stores = map[string]func(*testing.T, time.Duration) webhook.Store{
	"memory": func(t *testing.T, lease time.Duration) webhook.Store {
		s, err := webhook.NewMemoryStore(webhook.MemoryConfig{Lease: lease})
		must(t, err)
		return s
	},
	"postgres, pgx": func(t *testing.T, lease time.Duration) webhook.Store {
		return newPostgres(t, testdb.NewEmpty(t), "pgx", lease)
	},
	"postgres, lib/pq": func(t *testing.T, lease time.Duration) webhook.Store {
		return newPostgres(t, testdb.NewEmpty(t), "postgres", lease)
	},
}

// onEachStore runs a test once with each store.
func onEachStore(t *testing.T, lease time.Duration, test func(*testing.T, func(http.HandlerFunc) *rig)) {
	for name, newStore := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t, lease)
			test(t, func(next http.HandlerFunc) *rig {
				return newRig(t, next, func(c *webhook.HandlerConfig) { c.Store = store })
			})
		})
	}
}

func TestARepeatIsAcceptedWithoutTheHandler(t *testing.T) {
	t.Parallel()
	onEachStore(t, 0, func(t *testing.T, serve func(http.HandlerFunc) *rig) {
		var handled atomic.Int32
		rig := serve(func(http.ResponseWriter, *http.Request) { handled.Add(1) })
		rig.want(t, "a", 200)
		rig.want(t, "a", 204)
		rig.want(t, "b", 200)
		rig.want(t, "a", 204)
		if n := handled.Load(); n != 2 || len(rig.faults()) > 0 {
			t.Errorf("handled %d times, want 2; the faults are %v, want none", n, rig.faults())
		}
	})
}

func TestAFailedHandlerIsCalledAgain(t *testing.T) {
	t.Parallel()
	onEachStore(t, 0, func(t *testing.T, serve func(http.HandlerFunc) *rig) {
		var calls atomic.Int32
		rig := serve(func(w http.ResponseWriter, _ *http.Request) {
			switch calls.Add(1) {
			case 1:
				w.WriteHeader(http.StatusInternalServerError)
			case 2:
				panic(http.ErrAbortHandler)
			case 3:
				_, _ = w.Write([]byte("so far so good"))
				panic("and then not")
			case 4:
				w.WriteHeader(http.StatusNotModified)
			case 5:
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(http.StatusGone)
			case 6:
				w.WriteHeader(http.StatusConflict)
				w.WriteHeader(http.StatusOK) // too late: net/http has sent the first one
			default:
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(http.StatusOK)
				w.WriteHeader(http.StatusInternalServerError) // too late
			}
		})
		for _, want := range []int{500, 0, 0, 304, 410, 409, 200, 204} {
			rig.want(t, "id", want)
		}
		if n := calls.Load(); n != 7 {
			t.Errorf("the handler was called %d times, want 7", n)
		}
	})
}

func TestOneOfManyCopiesAtOnceIsHandled(t *testing.T) {
	t.Parallel()
	onEachStore(t, 0, func(t *testing.T, serve func(http.HandlerFunc) *rig) {
		var handled atomic.Int32
		hold := make(chan struct{})
		rig := serve(func(http.ResponseWriter, *http.Request) {
			handled.Add(1)
			<-hold
		})
		const copies = 12
		answers := make(chan int, copies)
		for range copies {
			go func() { answers <- rig.deliver(t, "id", nil) }()
		}
		for range copies - 1 { // all copies but one are answered while that one is handled
			if got := <-answers; got != http.StatusTooEarly {
				t.Errorf("the answer to a copy is %d, want 425", got)
			}
		}
		close(hold)
		if got := <-answers; got != 200 || handled.Load() != 1 {
			t.Errorf("the answer is %d, after %d calls of the handler; want 200 after 1", got, handled.Load())
		}
		rig.want(t, "id", 204)
	})
}

// However copies of messages arrive and handlers fail, no two handlers handle a message at the same time, none handles it again
// after it was processed, and each message is processed in the end.
func TestEachMessageIsProcessedOnceWhateverFails(t *testing.T) {
	t.Parallel()
	onEachStore(t, 0, func(t *testing.T, serve func(http.HandlerFunc) *rig) {
		var mu sync.Mutex
		under, processed, calls := map[string]int{}, map[string]int{}, 0
		rig := serve(func(w http.ResponseWriter, r *http.Request) {
			d, _ := webhook.FromContext(r.Context())
			mu.Lock()
			under[d.ID]++
			calls++
			fail := calls%3 != 0
			if under[d.ID] > 1 || processed[d.ID] > 0 {
				t.Errorf("%s is handled by %d at a time, and was processed %d times; want 1 and 0", d.ID, under[d.ID], processed[d.ID])
			}
			mu.Unlock()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				under[d.ID]--
			}()
			if fail {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			processed[d.ID]++
		})
		var senders sync.WaitGroup
		for range 8 {
			senders.Go(func() {
				for _, id := range []string{"a", "b", "c", "d"} {
					for rig.deliver(t, id, nil)/100 != 2 {
					}
				}
			})
		}
		senders.Wait()
		for _, id := range []string{"a", "b", "c", "d"} {
			if processed[id] != 1 {
				t.Errorf("%s was processed %d times, want once", id, processed[id])
			}
		}
	})
}

// A handler whose process was killed, for example, never finishes its claim. The claim ends by itself.
func TestAnAbandonedClaimIsTakenOverAfterItsLease(t *testing.T) {
	t.Parallel()
	abandoned := func(t *testing.T, store webhook.Store, endLeases func()) {
		first := claim(t, store, "id", webhook.First)
		claim(t, store, "id", webhook.InProgress)
		endLeases()
		second := claim(t, store, "id", webhook.First)
		must(t, store.Finish(t.Context(), first, false)) // too late: the first handler has lost its claim
		claim(t, store, "id", webhook.InProgress)
		must(t, store.Finish(t.Context(), first, true)) // late, and still true: the message is processed
		claim(t, store, "id", webhook.Duplicate)
		must(t, store.Finish(t.Context(), second, false)) // does not undo it
		claim(t, store, "id", webhook.Duplicate)
		must(t, store.Finish(t.Context(), second, true))
		claim(t, store, "id", webhook.Duplicate)
	}
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			abandoned(t, newMemory(t, webhook.MemoryConfig{Lease: time.Hour}), func() { time.Sleep(time.Hour) })
		})
	})
	for _, driver := range []string{"pgx", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			db := testdb.NewEmpty(t)
			abandoned(t, newPostgres(t, db, driver, time.Hour), func() {
				execute(t, open(t, db, driver), `UPDATE %s."order" SET claimed_until = clock_timestamp()`, db.Schema)
			})
		})
	}
}

func claim(t *testing.T, s webhook.Store, id string, want webhook.State) webhook.Claim {
	t.Helper()
	c, err := s.Claim(t.Context(), id)
	if err != nil || c.State != want || c.ID != id || (c.Token != "") != (want == webhook.First) {
		t.Fatalf("Claim returns %+v, %v; want state %d", c, err, want)
	}
	return c
}

func takeOver(t *testing.T, s webhook.Store, id string) webhook.Claim {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := s.Claim(t.Context(), id); err != nil || c.State == webhook.First {
			must(t, err)
			return c
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the other claim did not end before the test")
		}
	}
}

func TestAProcessedMessageIsRecordedEvenIfAnotherHandlerGaveTheClaimBack(t *testing.T) {
	t.Parallel()
	for name, newStore := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t, 50*time.Millisecond)
			first := claim(t, store, "id", webhook.First)
			must(t, store.Finish(t.Context(), takeOver(t, store, "id"), false))
			must(t, store.Finish(t.Context(), first, true))
			claim(t, store, "id", webhook.Duplicate)
		})
	}
}

func TestTheHandlersContextEndsWithItsClaim(t *testing.T) {
	t.Parallel()
	onEachStore(t, 50*time.Millisecond, func(t *testing.T, serve func(http.HandlerFunc) *rig) {
		rig := serve(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done() // returns without an answer; net/http alone would write a 200
		})
		rig.want(t, "id", 503)
		rig.want(t, "id", 503) // it is handled again
		if faults := rig.faults(); len(faults) != 2 || !errors.Is(faults[0], webhook.ErrUnanswered) {
			t.Errorf("OnError got %v, want ErrUnanswered twice", faults)
		}
	})
}

// A handler that returns because its sender has hung up has not processed the message, though it wrote no error.
func TestAMessageWhoseSenderHungUpIsHandledAgain(t *testing.T) {
	t.Parallel()
	onEachStore(t, 0, func(t *testing.T, serve func(http.HandlerFunc) *rig) {
		begun, ended := make(chan struct{}, 1), make(chan struct{})
		var calls atomic.Int32
		rig := serve(func(_ http.ResponseWriter, r *http.Request) {
			if calls.Add(1) == 1 {
				begun <- struct{}{}
				<-r.Context().Done()
				close(ended)
			}
		})
		ctx, hangUp := context.WithCancel(t.Context())
		go func() {
			<-begun
			hangUp()
		}()
		if status, _ := rig.answerTo(rig.request(t, "id", nil).WithContext(ctx)); status != 0 {
			t.Fatalf("the answer is %d, want none", status)
		}
		<-ended
		status := 0
		for status == 0 || status == http.StatusTooEarly { // until the first handler has given its claim back
			status = rig.deliver(t, "id", nil)
		}
		if status != 200 || calls.Load() != 2 {
			t.Errorf("the answer is %d after %d calls of the handler, want 200 after 2", status, calls.Load())
		}
	})
}

func TestAHandlerBehindAStoreCanStillFlush(t *testing.T) {
	t.Parallel()
	flushed := make(chan struct{})
	rig := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write([]byte("half"))
		if err := errors.Join(err, http.NewResponseController(w).Flush()); err != nil {
			t.Error(err)
		}
		<-flushed
	}, func(c *webhook.HandlerConfig) { c.Store = stores["memory"](t, 0) })
	resp, err := rig.client.Do(rig.request(t, "id", nil)) // returns when the header has arrived
	must(t, err)
	close(flushed)
	must(t, resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the answer is %d, want 200", resp.StatusCode)
	}
}

type brokenStore struct{ claimed bool }

func (s brokenStore) Claim(_ context.Context, id string) (webhook.Claim, error) {
	if !s.claimed {
		return webhook.Claim{}, errors.New("no store today")
	}
	return webhook.Claim{ID: id, State: webhook.First, Token: "1"}, nil
}

func (brokenStore) Finish(context.Context, webhook.Claim, bool) error {
	return errors.New("no store today")
}

func TestAFailureOfTheStoreLeadsToARetryBeforeTheHandlerAndIsReportedAfterIt(t *testing.T) {
	t.Parallel()
	for claimed, want := range map[bool]int{false: 503, true: 200} {
		rig := newRig(t, func(_ http.ResponseWriter, r *http.Request) {
			if _, limited := r.Context().Deadline(); limited || !claimed {
				t.Errorf("the handler is called with claimed %v and limited %v, want true and false", claimed, limited)
			}
		}, func(c *webhook.HandlerConfig) { c.Store = brokenStore{claimed} })
		rig.want(t, "id", want)
		if faults := rig.faults(); len(faults) != 1 || !errors.Is(faults[0], webhook.ErrStore) {
			t.Errorf("OnError got %v, want ErrStore once", faults)
		}
	}
}
