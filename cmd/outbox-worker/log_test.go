package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestDurationsInJSONCarryTheirUnit(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	newLogger(&text, settings{LogFormat: logJSON}, slog.LevelInfo).Info("told", "took", 1234567*time.Nanosecond, slog.Group("of", "lease", time.Minute))
	var line struct {
		TookMS float64 `json:"took_ms"`
		Of     struct {
			LeaseMS float64 `json:"lease_ms"`
		} `json:"of"`
	}
	if err := json.Unmarshal(text.Bytes(), &line); err != nil || line.TookMS != 1.235 || line.Of.LeaseMS != 60_000 {
		t.Errorf("got %s (%v), want took_ms 1.235 and of.lease_ms 60000", text.String(), err)
	}
}

// put sends a level in the way of curl -X PUT -d.
func put(t *testing.T, url, level string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(level))
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestTheLogLevelCanBeChangedAtRuntime(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t)
	worker, admin := beginWorker(t, environment(db))
	url := "http://" + admin + "/log-level"
	if status, text := get(t, url); status != http.StatusOK || text != "info\n" {
		t.Errorf("GET returns %d %s, want 200 info", status, text)
	}
	if status, text := put(t, url, "loud"); status != http.StatusBadRequest || !strings.Contains(text, "debug, info, warn, error") {
		t.Errorf("PUT of an unknown level returns %d %s, want 400 and the levels", status, text)
	}
	if status, text := put(t, url, "debug\n"); status != http.StatusOK || text != "debug\n" {
		t.Errorf("PUT returns %d %s, want 200 debug", status, text)
	}
	worker.line("the level of the log is changed")
	id := written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url})
	if line := worker.line("attempt: delivered"); !strings.Contains(line, id.String()) || !strings.Contains(line, `"level":"DEBUG"`) {
		t.Errorf("the line is %s, want the message's id, at level DEBUG", line)
	}
}

func TestOnlyTheWorkersOwnMachineMayChangeTheLogLevel(t *testing.T) {
	t.Parallel()
	level := new(slog.LevelVar)
	handler := logLevelHandler(level, slog.New(slog.DiscardHandler))
	for from, want := range map[string]int{"192.0.2.1:5": http.StatusForbidden, "[2001:db8::1]:5": http.StatusForbidden, "127.0.0.1:5": http.StatusOK, "[::1]:5": http.StatusOK} {
		request, answer := httptest.NewRequest(http.MethodPut, logLevelPath, strings.NewReader("error")), httptest.NewRecorder()
		request.RemoteAddr = from
		level.Set(slog.LevelInfo)
		handler.ServeHTTP(answer, request)
		if changed := level.Level() == slog.LevelError; answer.Code != want || changed != (want == http.StatusOK) {
			t.Errorf("from %s the answer is %d, and the level changed: %v; want %d", from, answer.Code, changed, want)
		}
	}
}

func TestWithLogAttemptsEachAttemptHasALine(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t)
	worker, _ := beginWorker(t, append(environment(db), "OUTBOX_LOG_DELIVERIES=true"))
	for range 3 {
		id := written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url})
		if line := worker.line("attempt: delivered"); !strings.Contains(line, id.String()) || !strings.Contains(line, `"took_ms":`) {
			t.Errorf("the line is %s, want the message's id and took_ms", line)
		}
	}
}
