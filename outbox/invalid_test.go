package outbox_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

// big is a map of headers that takes some more bytes as JSON than the limit.
func big() map[string]string {
	headers := map[string]string{"zz": "too late", "huge": strings.Repeat("x", outbox.HeadersBytesMax)}
	for i := range 100 {
		headers[fmt.Sprintf("k%03d", i)] = strings.Repeat("v", 1000)
	}
	return headers
}

func TestWhatStrangersGetWrongIsDeadWithItsFaultNamed(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for name, c := range map[string]struct {
		change  func(*outbox.Message)
		reasons []string
	}{
		"a relative URL": {func(m *outbox.Message) { m.URL = "/hook" }, []string{"url: relative"}},
		"no URL":         {func(m *outbox.Message) { m.URL = "" }, []string{"url: relative"}},
		"a long URL": {
			func(m *outbox.Message) { m.URL += "/" + strings.Repeat("ü", 2000) },
			[]string{"url: 4030 bytes, the limit is 2048"},
		},
		"a URL with a password": {func(m *outbox.Message) { m.URL = "https://u:secret@a.example" }, []string{"url: holds a user name or password"}},
		"a large result": {
			func(m *outbox.Message) { m.Outcome.Result = make([]byte, outbox.ResultBytesLimit+1) },
			[]string{"result: 1048577 bytes, the limit is 1048576"},
		},
		"large headers": {func(m *outbox.Message) { m.Outcome.Headers = big() }, []string{"headers: ", "bytes as JSON, the limit is 65536"}},
		"all at once": {func(m *outbox.Message) {
			m.URL, m.Outcome.Headers, m.Outcome.Result = "relative", big(), make([]byte, outbox.ResultBytesLimit+1)
		}, []string{"url: relative", "result: 1048577", "headers: "}},
	} {
		m := fixture.Message(name)
		c.change(&m)
		d := fixture.Show(t, db, fixture.Write(t, db, m))
		if d.State != outbox.StateDead || d.DeadReason == nil || *d.DeadReason != "invalid" || d.NextAttemptAt != nil {
			t.Errorf("%s: it is %+v", name, d.MessageStatus)
			continue
		}
		for _, reason := range c.reasons {
			if !strings.Contains(*d.DeadError, reason) {
				t.Errorf("%s: it says %q; want %q", name, *d.DeadError, reason)
			}
		}
		if strings.Contains(*d.DeadError, "secret") {
			t.Errorf("%s: it says %q", name, *d.DeadError)
		}
	}
}

func TestResultsUpToTheLimitAreDueAndUpToWhatIsKeptAreKept(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for _, c := range []struct {
		bytes int
		state outbox.State
		kept  bool
	}{
		{0, outbox.StatePending, true},
		{outbox.ResultBytesLimit, outbox.StatePending, true},
		{outbox.ResultBytesLimit + 1, outbox.StateDead, true},
		{outbox.ResultBytesKept, outbox.StateDead, true},
		{outbox.ResultBytesKept + 1, outbox.StateDead, false},
	} {
		m := fixture.Message("run")
		m.Outcome.Result = bytes.Repeat([]byte{0xff}, c.bytes)
		d := fixture.Show(t, db, fixture.Write(t, db, m))
		if d.State != c.state || c.kept && !bytes.Equal(d.Result, m.Outcome.Result) || (d.Result != nil) != c.kept {
			t.Errorf("%d bytes: %s, with a result of %d bytes", c.bytes, d.State, len(d.Result))
		}
	}
}

func TestTheLimitOfResultsCanBeConfigured(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	w, err := outbox.NewWriter(outbox.Config{Schema: db.Schema, ResultBytesMax: 10})
	must(t, err)
	for n, state := range map[int]outbox.State{10: outbox.StatePending, 11: outbox.StateDead} {
		m := fixture.Message(fmt.Sprint(n))
		m.Outcome.Result = make([]byte, n)
		tx := fixture.Begin(t, db.Pool)
		id, err := w.Insert(t.Context(), tx, m)
		must(t, err)
		must(t, tx.Commit(t.Context()))
		if d := fixture.Show(t, db, id); d.State != state {
			t.Errorf("%d bytes: %s, want %s", n, d.State, state)
		}
	}
}

func TestAHugeErrorIsCutAndSaysSo(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	m := fixture.Message("run")
	m.Outcome = outbox.RunOutcome{RunID: "run", Status: outbox.Failed, Error: strings.Repeat("ü", outbox.ErrorBytesMax)}
	d := fixture.Show(t, db, fixture.Write(t, db, m))
	if d.State != outbox.StatePending || d.Error == nil || len(*d.Error) > outbox.ErrorBytesMax ||
		len(*d.Error) < outbox.ErrorBytesMax-64 || !strings.HasSuffix(*d.Error, "ü… [cut: 131072 bytes]") {
		t.Errorf("it is %s, and its error has %d bytes", d.State, len(*d.Error))
	}
}

func TestHeadersThatFitAreKeptAndNoOthersForwarded(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	m := fixture.Message("run")
	m.Outcome.Headers = big()
	for key := range m.Outcome.Headers {
		m.Options.Forward = append(m.Options.Forward, key)
	}
	d := fixture.Show(t, db, fixture.Write(t, db, m))
	if text, _ := json.Marshal(d.Headers); len(text) > outbox.HeadersBytesMax || len(text) < outbox.HeadersBytesMax-2000 {
		t.Errorf("%d bytes are kept", len(text))
	}
	if d.Headers["huge"] != "" || d.Headers["k000"] == "" || d.Headers["zz"] == "" {
		t.Errorf("kept are %d headers, not those that fit in the order of their names", len(d.Headers))
	}
	var options struct{ Forward []string }
	must(t, json.Unmarshal(d.Options, &options))
	if len(options.Forward) != len(d.Headers) {
		t.Errorf("%d headers are forwarded, %d are there", len(options.Forward), len(d.Headers))
	}
}

func TestTextThatPostgresCannotCarryIsMadeValid(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	m := outbox.Message{
		Outcome: outbox.RunOutcome{
			RunID: "run \x00 \xff", Status: outbox.Failed, Error: "why: \x00 \xff\xfe",
			Headers: map[string]string{"k \x00": "v \x00", "\xff": "\xc3", "plain": "plain"},
		},
		URL:     "https://receiver.example/hook",
		Options: outbox.Options{Forward: []string{"k \x00", "\xff", "plain"}},
	}
	d := fixture.Show(t, db, fixture.Write(t, db, m))
	if d.State != outbox.StatePending || d.RunID != "run � �" || *d.Error != "why: � �" || len(d.Headers) != 3 ||
		d.Headers["k �"] != "v �" || d.Headers["�"] != "�" || d.Headers["plain"] != "plain" {
		t.Errorf("it is %+v %q %q", d, *d.Error, d.Headers)
	}
	if got, want := fixture.CompactJSON(t, d.Options), `{"forward":["k �","plain","�"]}`; got != want {
		t.Errorf("the options are %s, want %s", got, want)
	}

	m.URL = "https://receiver.example/\xff\x00"
	if d := fixture.Show(t, db, fixture.Write(t, db, m)); d.State != outbox.StateDead || d.URL != "https://receiver.example/��" {
		t.Errorf("it is %s, to %q", d.State, d.URL)
	}
	m.Outcome.RunID = strings.Repeat("\xff.", outbox.RunIDBytesMax/2) // longer when it is clean
	if d := fixture.Show(t, db, fixture.Write(t, db, m)); len(d.RunID) != outbox.RunIDBytesMax {
		t.Errorf("the run id has %d bytes", len(d.RunID))
	}
}
