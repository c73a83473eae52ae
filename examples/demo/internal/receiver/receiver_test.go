package receiver

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/compare"
	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
)

func TestMain(m *testing.M) { leakcheck.Main(m) }

func start(t *testing.T, refused float64) *Receiver {
	t.Helper()
	r, err := Start(1, refused)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func post(t *testing.T, ctx context.Context, r *Receiver, message, run, body string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("webhook-id", message)
	request.Header.Set("Workflow-Run-Id", run)
	request.Header.Set("Workflow-Run-Status", "succeeded")
	request.Header.Set(compare.AttemptHeader, "attempt of "+run)
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestAnAcceptedRequestIsRecorded(t *testing.T) {
	t.Parallel()
	r := start(t, 0)
	for _, body := range []string{"first", "second"} {
		if code := post(t, t.Context(), r, "message-1", "src/Äfoo.go", body); code != http.StatusOK {
			t.Fatalf("got the status %d, want 200", code)
		}
	}
	record := r.Record()
	if len(record.Arrivals) != 2 || r.Delivered() != 1 || record.Refusals != 0 || len(record.Faults) != 0 {
		t.Fatalf("the record is %+v, want two arrivals of one message", record)
	}
	a := record.Arrivals[1]
	if a.MessageID != "message-1" || a.RunID != "src/Äfoo.go" || a.Status != "succeeded" ||
		a.Attempt != "attempt of src/Äfoo.go" || a.Body != sha256.Sum256([]byte("second")) || a.At.IsZero() {
		t.Errorf("the second arrival is %+v, want the second body", a)
	}
}

func TestARefusedRequestIsNotRecorded(t *testing.T) {
	t.Parallel()
	r := start(t, 1)
	if code := post(t, t.Context(), r, "message-1", "run-1", ""); code != http.StatusServiceUnavailable {
		t.Errorf("got the status %d, want 503", code)
	}
	if record := r.Record(); len(record.Arrivals) != 0 || record.Refusals != 1 || r.Delivered() != 0 {
		t.Errorf("the record is %+v, want one refusal", record)
	}
}

func TestAHeldRequestIsRecordedBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	r := start(t, 0)
	release := r.Hold()
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan int)
	go func() { answers <- post(t, t.Context(), r, "message-1", "run-1", "") }()
	go func() { answers <- post(t, ctx, r, "message-2", "run-2", "") }()
	for r.Held() < 2 {
		select {
		case code := <-answers:
			t.Fatalf("got the status %d while the request is held, want no answer", code)
		default:
		}
	}
	cancel()
	if code := <-answers; code != 0 {
		t.Errorf("the cancelled request got the status %d, want none", code)
	}
	release()
	if code := <-answers; code != http.StatusOK {
		t.Errorf("after the release got the status %d, want 200", code)
	}
	if r.Delivered() != 2 {
		t.Errorf("%d messages are recorded, want both", r.Delivered())
	}
}

func TestARequestThatIsNotAWebhookIsAFault(t *testing.T) {
	t.Parallel()
	r := start(t, 0)
	if code := post(t, t.Context(), r, "", "run-1", ""); code != http.StatusBadRequest {
		t.Errorf("got the status %d, want 400", code)
	}
	if record := r.Record(); len(record.Faults) != 1 || len(record.Arrivals) != 0 {
		t.Errorf("the record is %+v, want one fault", record)
	}
}
