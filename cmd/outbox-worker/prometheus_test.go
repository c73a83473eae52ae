package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// tool returns the path of one of Prometheus's programs, which CI installs (.ci/install-tools).
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (the package prometheus)", name)
	}
	return path
}

// freePort returns an address whose port was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// scrape starts a Prometheus that scrapes an admin address, and returns Prometheus's URL.
func scrape(t *testing.T, admin string) (base string) {
	t.Helper()
	return scrapeAll(t, "", admin)
}

// scrapeAll does the same with a file of rules and several addresses.
func scrapeAll(t *testing.T, rules string, admins ...string) (base string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\n"+
		"scrape_configs:\n- {job_name: outbox-worker, static_configs: [{targets: [%s]}]}\n", strings.Join(admins, ", "))
	if rules != "" {
		text += fmt.Sprintf("rule_files: [%q]\n", rules)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freePort(t)
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), tool(t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus:\n%s", out.String())
		}
	})
	return "http://" + address
}

// ask returns the value of a query. ok is false if it does not have exactly one.
func ask(base, query string) (value string, ok bool) {
	values, err := results(base, query)
	if err != nil || len(values) != 1 {
		return "", false // Prometheus is still starting
	}
	return values[0], true
}

// results returns the values of a query.
func results(base, query string) (values []string, err error) {
	response, err := http.Get(base + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct{ Result []struct{ Value [2]any } }
	}
	body, _ := io.ReadAll(response.Body)
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, errors.New(answer.Error)
	}
	for _, r := range answer.Data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values, nil
}

func TestARealPrometheusScrapesAWorkerUnderLoad(t *testing.T) {
	t.Parallel()
	tool(t, "prometheus")
	db := testdb.New(t)
	receiver := beginReceiver(t)
	_, admin := beginWorker(t, append(environment(db), "OUTBOX_SAMPLE_INTERVAL=1s"))
	base := scrape(t, admin)
	const messages = 500
	for range messages {
		written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url})
	}
	for _, want := range []struct{ query, value string }{
		{`up{job="outbox-worker"}`, "1"},
		{`sum(outbox_settled_total{result="delivered"})`, "500"},
		{`sum(outbox_attempts_total{class="delivered",status_class="2xx"})`, "500"},
		{`sum(outbox_settlement_duration_seconds_count)`, "500"},
		{`sum(outbox_settlement_duration_seconds_bucket{le="604800.0"} or outbox_settlement_duration_seconds_bucket{le="604800"})`, "500"},
		{`sum(outbox_messages)`, "0"},
		{`outbox_workers`, "1"},
		{`outbox_ready`, "1"},
		{`count(outbox_sample_age_seconds < 60)`, "1"},
	} {
		value := ""
		for deadline := time.Now().Add(3 * patience); value != want.value; time.Sleep(50 * time.Millisecond) { // no event tells when Prometheus has scraped
			if value, _ = ask(base, want.query); time.Now().After(deadline) {
				t.Fatalf("%s is %q; want %s", want.query, value, want.value)
			}
		}
	}
}

func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool")
	db := testdb.New(t)
	receiver := beginReceiver(t)
	_, admin := beginWorker(t, append(environment(db), "OUTBOX_SAMPLE_INTERVAL=1s"))
	receiver.line(written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url}).String())
	metrics := scraped(t, admin, "outbox_settled_total", "outbox_messages{", "outbox_oldest_due_age_seconds", "outbox_pool_in_use")
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader([]byte(metrics))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics returns %v, want no complaints:\n%s", err, out)
	}
}
