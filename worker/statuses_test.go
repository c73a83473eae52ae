package worker

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestAnOperatorChoosesTheStatusesThatAreRetried, except 2xx and 410.
func TestAnOperatorChoosesTheStatusesThatAreRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(w http.ResponseWriter, got request) {
		w.WriteHeader(map[string]int{"/404": 404, "/409": 409, "/302": 302, "/500": 500, "/429": 429, "/200": 200}[got.path])
	})
	c := r.patientOnce()
	c.RetryStatuses = []int{302, 404, 500}
	wants := map[string]outbox.State{
		"/404": outbox.StateRetrying, "/302": outbox.StateRetrying, "/500": outbox.StateRetrying,
		"/409": outbox.StateDead, "/429": outbox.StateDead, "/200": outbox.StateDelivered,
	}
	ids := map[string]outbox.ID{}
	for path := range wants {
		ids[path] = r.writeTo(to.URL+path, path)
	}
	r.run(c)
	for path, want := range wants {
		if d := r.awaitState(ids[path], want); want == outbox.StateDead && *d.DeadReason != "refused" {
			t.Errorf("%s: the message is dead as %s, want refused", path, *d.DeadReason)
		}
	}
}

func TestStatusesThatCannotBeRetriedAreRefused(t *testing.T) {
	t.Parallel()
	for _, status := range []int{-1, 0, 100, 199, 200, 204, 299, 410, 600, 1000} {
		err := Config{RetryStatuses: []int{503, status}}.Validate()
		if err == nil || !strings.Contains(err.Error(), "RetryStatuses") {
			t.Errorf("%d: Validate returns %v, want a fault of RetryStatuses", status, err)
		}
	}
	if err := (Config{RetryStatuses: []int{}}).Validate(); err != nil {
		t.Errorf("with an empty list, Validate returns %v, want no error", err)
	}
}
