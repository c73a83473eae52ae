package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

const (
	endpointA = "https://a.example"
	endpointB = "http://b.example:8080"
	unknownID = "0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10"
)

// oneOfEach makes a schema with a message in every state, and returns the messages by state.
func oneOfEach(t *testing.T) (*testdb.DB, map[outbox.State]outbox.ID) {
	t.Helper()
	db := testdb.New(t)
	ids := map[outbox.State]outbox.ID{}
	for i, state := range outbox.States {
		url := endpointA + "/hook"
		if state == outbox.StateDead {
			url = endpointB + "/hook"
		}
		ids[state] = written(t, db, outbox.Message{Outcome: testdb.Outcome(fmt.Sprintf("run-%d-%s", i, state), url), URL: url})
	}
	lease := `UPDATE outbox.due SET attempt = 1, locked_by = 'host/1', locked_until = now() + interval '30s' WHERE message_id = $1`
	execute(t, db, lease, ids[outbox.StateDelivering])
	execute(t, db, `UPDATE outbox.due SET attempt = 1, due_at = now() + interval '5 min' WHERE message_id = $1`, ids[outbox.StateRetrying])
	attempt := `INSERT INTO outbox.attempt (message_id, attempt, started_at, duration_ms, class, status_code, error, response, worker)
VALUES ($1, 1, now() - interval '2 h 5 min', 12, 'status', 503, 'answered 503', E'busy \x1b[31m', 'host/1')`
	execute(t, db, attempt, ids[outbox.StateRetrying])
	for state, reason := range map[outbox.State]string{outbox.StateDead: "refused", outbox.StateCancelled: "cancelled"} {
		execute(t, db, `INSERT INTO outbox.dead (message_id, endpoint, reason, error, at)
SELECT message_id, endpoint, $2, 'answered 404', now() - interval '2 h 5 min' FROM outbox.due WHERE message_id = $1`, ids[state], reason)
	}
	for _, state := range []outbox.State{outbox.StateDelivered, outbox.StateDead, outbox.StateCancelled} {
		execute(t, db, `DELETE FROM outbox.due WHERE message_id = $1`, ids[state])
	}
	execute(t, db, `UPDATE outbox.message SET created_at = now() - interval '3 h'`)
	return db, ids
}

// states returns each message's state, as the command list prints it.
func states(t *testing.T, db *testdb.DB) map[outbox.ID]outbox.State {
	t.Helper()
	got := invoke(t, environment(db), "list", "--json", "--limit", "10000")
	if got.status != exitOK {
		t.Fatalf("list fails with %s", got.stderr)
	}
	byID := map[outbox.ID]outbox.State{}
	for _, m := range decoded[[]operator.MessageStatus](t, got) {
		byID[m.ID] = m.State
	}
	return byID
}

func TestStatusCountsEveryStateAndNamesTheWorstEndpoints(t *testing.T) {
	t.Parallel()
	db, _ := oneOfEach(t)
	execute(t, db, `INSERT INTO outbox.endpoint (endpoint, paused, reason, since) VALUES ($1, true, E'gone\x1b', now() - interval '1 h')`, endpointB)
	got := invoke(t, environment(db), "status")
	got.wants(t, exitOK)
	for _, line := range []string{
		`(?m)^STATE       MESSAGES  OLDEST$`, `(?m)^pending     1         due (just now|\ds ago)$`,
		`(?m)^delivering  1         due .*, lease ends in \d+s$`, `(?m)^retrying    1         due in [45]m\d*s?$`,
		`(?m)^delivered   1$`, `(?m)^dead        1         since 2h5m ago$`,
		`(?m)^ENDPOINT               RETRYING  DEAD  WAITING  DELIVERING  OLDEST DUE +HELD BACK$`,
		`(?m)^http://b.example:8080  0         1     0        0 +paused 1h ago: gone\\x1b$`,
		`(?m)^https://a.example      1         0     3        1 +\S+`,
	} {
		if !regexp.MustCompile(line).MatchString(got.stdout) {
			t.Errorf("no line matches %s, want one:\n%s", line, got.stdout)
		}
	}
	invoke(t, environment(db), "status", "--endpoints", "1").wants(t, exitOK, "1 more endpoint is not listed, of which 0 have something waiting")
	v := decoded[struct {
		At        time.Time                 `json:"at"`
		States    []operator.StateCount     `json:"states"`
		Endpoints []operator.EndpointStatus `json:"endpoints"`
		Workers   json.RawMessage           `json:"workers"`
		Unlisted  int                       `json:"unlisted"`
		Sample    *operator.Sample          `json:"sample"`
	}](t, invoke(t, environment(db), "status", "--json", "--endpoints", "1"))
	if len(v.States) != len(outbox.States) || v.States[4].Messages != 1 || len(v.Endpoints) != 1 || v.Endpoints[0].Waiting != 3 || v.Unlisted != 1 || v.At.IsZero() {
		t.Errorf("got %+v, want all states, one endpoint of two, and a time", v)
	}
}

func TestCommandsSayThatAnOutboxIsEmpty(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	invoke(t, environment(db), "status").wants(t, exitOK, "pending     0\n", "no endpoint has anything waiting or dead")
	got := invoke(t, environment(db), "list")
	got.wants(t, exitOK, "no messages\n")
	if got.stdout != "" {
		t.Errorf("stdout is %q, want it empty", got.stdout)
	}
	if got := invoke(t, environment(db), "list", "--json"); got.stdout != "[]\n" {
		t.Errorf("list --json prints %q, want an empty array", got.stdout)
	}
	if got := invoke(t, environment(db), "status", "--json"); !strings.Contains(got.stdout, `"endpoints": []`) {
		t.Errorf("status --json prints\n%s\nwant an empty array of endpoints", got.stdout)
	}
}

func TestListFiltersByStateEndpointRunAndAge(t *testing.T) {
	t.Parallel()
	db, ids := oneOfEach(t)
	young := written(t, db, outbox.Message{Outcome: testdb.Outcome("young", endpointA), URL: endpointA})
	for _, c := range []struct {
		args string
		want []outbox.ID
	}{
		{"--state dead", []outbox.ID{ids[outbox.StateDead]}},
		{"--state retrying,Delivering", []outbox.ID{ids[outbox.StateRetrying], ids[outbox.StateDelivering]}},
		{"--state dead --state cancelled", []outbox.ID{ids[outbox.StateCancelled], ids[outbox.StateDead]}},
		{"--endpoint " + endpointB, []outbox.ID{ids[outbox.StateDead]}},
		{"--run-id run-0-pending", []outbox.ID{ids[outbox.StatePending]}},
		{"--newer-than 1h", []outbox.ID{young}},
		{"--older-than 1h --state pending", []outbox.ID{ids[outbox.StatePending]}},
		{"--older-than 7d", nil},
		{"--limit 1", []outbox.ID{young}},
	} {
		got := invoke(t, environment(db), append([]string{"list", "--ids"}, strings.Fields(c.args)...)...)
		got.wants(t, exitOK)
		want := ""
		for _, id := range c.want {
			want += id.String() + "\n"
		}
		if got.stdout != want {
			t.Errorf("list %s prints\n%swant\n%s", c.args, got.stdout, want)
		}
	}
	invoke(t, environment(db), "list", "--limit", "1").wants(t, exitOK, "only the newest 1 is listed; --limit lists more")
}

func TestListShowsATableWithTheLastError(t *testing.T) {
	t.Parallel()
	db, _ := oneOfEach(t)
	got := invoke(t, environment(db), "list")
	for _, line := range []string{
		`(?m)^ID {36}STATE       RUN {15}STATUS     ENDPOINT               ATTEMPTS  WRITTEN  NEXT               LAST$`,
		`(?m) dead        run-4-dead +succeeded  http://b.example:8080  0         3h ago   -                  refused: answered 404$`,
		`(?m) cancelled   run-5-cancelled +succeeded  https://a.example      0         3h ago   -                  answered 404$`,
		`(?m) retrying    run-2-retrying +succeeded  https://a.example      1         3h ago   in [45]m\S* +503: answered 503$`,
		`(?m) delivering  run-1-delivering +succeeded  https://a.example      1         3h ago   lease ends in \d\ds$`,
	} {
		if !regexp.MustCompile(line).MatchString(got.stdout) {
			t.Errorf("no line matches %s, want one:\n%s", line, got.stdout)
		}
	}
}

func TestShowPrintsTheMessageAndEveryAttempt(t *testing.T) {
	t.Parallel()
	db, ids := oneOfEach(t)
	id := ids[outbox.StateRetrying].String()
	got := invoke(t, environment(db), "show", id)
	got.wants(t, exitOK, "message    "+id+"\n", "state      retrying, next attempt in ", "run        run-2-retrying, succeeded at step 2\n",
		"written    3h ago (", "headers    callback_url: https://a.example/hook\n", "body       11 bytes\n  | {\"ok\":true}\n",
		"2h5m ago  12ms  status  503     host/1  answered 503 · busy \\x1b[31m\n")
	d := decoded[operator.MessageDetail](t, invoke(t, environment(db), "show", id, "--json"))
	if d.ID.String() != id || string(d.Result) != `{"ok":true}` || len(d.AttemptList) != 1 || *d.AttemptList[0].StatusCode != 503 {
		t.Errorf("got %+v, want the message with its result and one attempt", d)
	}
	if got := invoke(t, environment(db), "show", id, "--body"); got.stdout != `{"ok":true}` {
		t.Errorf("--body writes %q, want the bare body", got.stdout)
	}
	invoke(t, environment(db), "show", ids[outbox.StateDead].String()).wants(t, exitOK, "state      dead 2h5m ago, refused: answered 404", "no attempts yet")
	invoke(t, environment(db), "show", unknownID).wants(t, exitNotFound, "no such message")
}

func TestShowPrintsABoundedPartOfTheBodyWithoutControlCharacters(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	show := func(o outbox.RunOutcome) invocation {
		id := written(t, db, outbox.Message{Outcome: o, URL: endpointA})
		return invoke(t, environment(db), "show", id.String())
	}
	o := testdb.Outcome("r", "")
	o.Result = []byte(strings.Repeat("é", 1000))
	show(o).wants(t, exitOK, "body       2,000 bytes, the first 1024 are shown; --body writes all")
	o.Result = []byte{0xff, 0, 1}
	show(o).wants(t, exitOK, "body       3 bytes, not text; --body writes them")
	o.Result = make([]byte, outbox.ResultBytesKept+1)
	show(o).wants(t, exitOK, "state      dead ", ", invalid: result: 16777217 bytes", "body       not kept: it was over 16,777,216 bytes")
	show(outbox.RunOutcome{RunID: "f", Status: outbox.Failed, Error: "boom\n\x1b[2Jbang"}).wants(t, exitOK, "  | boom\n  | \\x1b[2Jbang\n")
}

func TestReplayMakesMessagesDueAgain(t *testing.T) {
	t.Parallel()
	db, ids := oneOfEach(t)
	dead, delivered := ids[outbox.StateDead], ids[outbox.StateDelivered]
	invoke(t, environment(db), "replay", dead.String(), delivered.String()).wants(t, exitOK, dead.String()+" is due again\n", "2 messages replayed")
	if s := states(t, db); s[dead] != outbox.StatePending || s[delivered] != outbox.StatePending {
		t.Errorf("the states are %v, want those that the output says", s)
	}
	got := invoke(t, environment(db), "replay", ids[outbox.StateCancelled].String(), "--url", endpointB+"/new", "--json")
	done := decoded[[]operator.Replayed](t, got)
	if len(done) != 1 || done[0].ID != ids[outbox.StateCancelled] || states(t, db)[done[0].New] != outbox.StatePending {
		t.Errorf("got %+v, want a new pending message", done)
	}
}

func TestReplayWarnsThatAnEndpointIsPaused(t *testing.T) {
	t.Parallel()
	db, ids := oneOfEach(t)
	dead := ids[outbox.StateDead].String()
	if got := invoke(t, environment(db), "replay", dead); strings.Contains(got.stderr, "warning") {
		t.Errorf("got the warning %q, want none: nothing is paused", got.stderr)
	}
	invoke(t, environment(db), "pause", endpointB).wants(t, exitOK)
	invoke(t, environment(db), "replay", dead).wants(t, exitOK, "1 message replayed", "warning: 1 message waits to "+endpointB+": it is paused")
	execute(t, db, `INSERT INTO outbox.dead (message_id, endpoint, reason, error) SELECT message_id, endpoint, 'gone', '' FROM outbox.due WHERE endpoint = $1`, endpointB)
	execute(t, db, `DELETE FROM outbox.due WHERE endpoint = $1`, endpointB)
	invoke(t, environment(db), "replay", "--dead", "--endpoint", endpointB).wants(t, exitOK, "warning: 1 message waits to "+endpointB)
}

func TestReplayNamesEveryMessageItCannotReplayAndChangesNone(t *testing.T) {
	t.Parallel()
	db, ids := oneOfEach(t)
	got := invoke(t, environment(db), "replay", ids[outbox.StateDead].String(), ids[outbox.StateDelivering].String(), unknownID)
	got.wants(t, exitNotFound, ids[outbox.StateDelivering].String()+" is being delivered now", unknownID+" is not there")
	if s := states(t, db); s[ids[outbox.StateDead]] != outbox.StateDead {
		t.Errorf("the states are %v, want those that the output says", s)
	}
	invoke(t, environment(db), "replay", ids[outbox.StateDelivering].String()).wants(t, exitFailed, "is being delivered now")
}

func TestReplayReadsIDsFromStdinAsListPrintsThem(t *testing.T) {
	t.Parallel()
	db, ids := oneOfEach(t)
	for _, args := range [][]string{{"list", "--state", "dead"}, {"list", "--state", "cancelled", "--ids"}} {
		listed := invoke(t, environment(db), args...)
		invokeWith(t, environment(db), "# these\n\n"+listed.stdout, "replay", "-").wants(t, exitOK, "1 message replayed")
	}
	if s := states(t, db); s[ids[outbox.StateDead]] != outbox.StatePending || s[ids[outbox.StateCancelled]] != outbox.StatePending {
		t.Errorf("the states are %v, want those that the output says", s)
	}
	invokeWith(t, environment(db), "one\ntwo\n", "replay", "-").wants(t, exitUsage, `not a message id: "one"`, `not a message id: "two"`)
}

func TestReplayTakesAllDeadMessagesOfAnEndpoint(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	const many = 1203 // more than two batches
	execute(t, db, `INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint)
SELECT gen_random_uuid(), 'run-' || i, 'succeeded', '', 0, $1::text, $1::text FROM generate_series(1, $2::int) i`, endpointA, many+700)
	execute(t, db, `INSERT INTO outbox.dead (message_id, endpoint, reason, error)
SELECT id, endpoint, CASE WHEN substr(run_id, 5)::int > $1 THEN 'invalid' ELSE 'exhausted' END, '' FROM outbox.message`, many)
	got := invoke(t, environment(db), "replay", "--dead", "--endpoint", endpointA, "--json")
	got.wants(t, exitOK, "700 dead messages left: invalid from the beginning")
	if done := decoded[[]operator.Replayed](t, got); len(done) != many {
		t.Errorf("%d messages were replayed, want %d", len(done), many)
	}
	invoke(t, environment(db), "replay", "--dead", "--endpoint", endpointB).wants(t, exitNotFound, "no dead message can be replayed at "+endpointB)
}

func TestCancelTakesDueMessagesOnly(t *testing.T) {
	t.Parallel()
	db, ids := oneOfEach(t)
	pending := ids[outbox.StatePending]
	invoke(t, environment(db), "cancel", pending.String(), ids[outbox.StateDelivered].String()).wants(t, exitFailed, "is delivered; only what is due can be cancelled")
	if s := states(t, db); s[pending] != outbox.StatePending {
		t.Errorf("the states are %v, want those that the output says", s)
	}
	got := invoke(t, environment(db), "cancel", pending.String(), "--reason", "the customer left", "--json")
	got.wants(t, exitOK)
	if list := decoded[[]idState](t, got); len(list) != 1 || list[0].State != outbox.StateCancelled {
		t.Errorf("got %+v, want one cancelled message", list)
	}
	invoke(t, environment(db), "show", pending.String()).wants(t, exitOK, "state      cancelled ", ": the customer left")
	invoke(t, environment(db), "cancel", unknownID).wants(t, exitNotFound, unknownID+" is not there")
}

func TestPauseAndResumePrintWhatTheyDid(t *testing.T) {
	t.Parallel()
	db, _ := oneOfEach(t)
	invoke(t, environment(db), "pause", endpointA, "--reason", "maintenance").wants(t, exitOK, endpointA+" is paused\n")
	invoke(t, environment(db), "status").wants(t, exitOK, "paused ", ": maintenance")
	got := invoke(t, environment(db), "resume", endpointA, "--json")
	got.wants(t, exitOK)
	if v := decoded[endpointPaused](t, got); v.Paused || v.Endpoint != endpointA {
		t.Errorf("got %+v, want the endpoint without a pause or a limit", v)
	}
	invoke(t, environment(db), "resume", endpointA).wants(t, exitNotFound, "is not held back")
}

func TestLimitPrintsWhatItSetAndStatusShowsIt(t *testing.T) {
	t.Parallel()
	db, _ := oneOfEach(t)
	invoke(t, environment(db), "limit", endpointA, "--rate", "2.5", "--max-in-flight", "3").
		wants(t, exitOK, endpointA+": at most 3 at once, of each worker, at most 2.5 per second\n")
	invoke(t, environment(db), "status").wants(t, exitOK, "at most 2.5 per second: limited by an operator")
	got := invoke(t, environment(db), "limit", endpointA, "--none", "--json")
	got.wants(t, exitOK, `"max_in_flight": null`, `"rate_per_second": null`)
	if v := decoded[endpointLimited](t, got); v != (endpointLimited{Endpoint: endpointA}) {
		t.Errorf("got %+v, want the endpoint without a pause or a limit", v)
	}
	invoke(t, environment(db), "limit", endpointA).wants(t, exitUsage, "nothing to limit")
	invoke(t, environment(db), "limit", endpointA, "--none", "--rate", "1").wants(t, exitUsage, "--none removes the limits")
	invoke(t, environment(db), "limit", endpointA, "--rate", "-1").wants(t, exitUsage, "--rate is -1")
}

func TestJSONLeavesURLsReadable(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	url := endpointA + "/hook?a=1&b=<2>"
	id := written(t, db, outbox.Message{Outcome: testdb.Outcome("r", url), URL: url})
	got := invoke(t, environment(db), "show", id.String(), "--json")
	if !strings.Contains(got.stdout, url) || !json.Valid([]byte(got.stdout)) {
		t.Errorf("got %s, want JSON with the URL as it is", got.stdout)
	}
}
