package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// awaitMessage waits until a condition holds for a message's row of the view status.
func awaitMessage(t *testing.T, db *testdb.DB, id outbox.ID, condition string) {
	t.Helper()
	sql := "SELECT EXISTS (SELECT FROM " + db.Schema + ".status WHERE id = $1 AND " + condition + ") FROM pg_sleep(0.01)"
	for begun := time.Now(); time.Since(begun) < patience; {
		var met bool
		if err := db.Pool.QueryRow(t.Context(), sql, id).Scan(&met); err != nil {
			t.Fatal(err)
		}
		if met {
			return
		}
	}
	t.Fatalf("the condition %s did not hold within %v:\n%s", condition, patience, invoke(t, environment(db), "show", id.String()).stdout)
}

// askForKeys gets a worker's public keys until the answer is as wanted. The worker checks its file for each request.
func askForKeys(t *testing.T, admin, what string, wanted func(jwks string) bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < patience; <-tick.C {
		if _, jwks := get(t, "http://"+admin+"/.well-known/jwks.json"); wanted(jwks) {
			return
		}
	}
	t.Fatalf("got no %s within %v", what, patience)
}

func awaitJWKS(t *testing.T, admin, text string) {
	t.Helper()
	askForKeys(t, admin, "JWKS with "+text, func(jwks string) bool { return strings.Contains(jwks, text) })
}

// awaitKeyLog waits for a line that a worker logs when it checks its file, and returns it.
func awaitKeyLog(t *testing.T, worker *running, admin, text string) (line string) {
	t.Helper()
	askForKeys(t, admin, "line with "+text, func(string) bool {
		line = lineWith(worker.said(), text)
		return line != ""
	})
	return line
}

// signedBy writes a message that names a key set.
func signedBy(t *testing.T, db *testdb.DB, url, set string) outbox.ID {
	t.Helper()
	return written(t, db, outbox.Message{Outcome: testdb.Outcome("run-"+set, url), URL: url, Options: outbox.Options{SigningKey: set}})
}

func TestASignedDeliveryIsVerifiedByTheReceiver(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	shared, private := generated(t, webhook.HMAC), generated(t, webhook.Ed25519)
	receiver := beginReceiver(t, "--keys-file", keysFile(t, shared.Reveal(), publicText(private)))
	byDefault, byName := signedBy(t, db, receiver.url, ""), signedBy(t, db, receiver.url, "acme")
	worker, _ := beginWorker(t, append(environment(db), "OUTBOX_SIGNING_KEYS=default="+shared.Reveal(),
		"OUTBOX_SIGNING_KEYS_FILE="+keysFile(t, "acme = "+private.Reveal())))
	for id, want := range map[outbox.ID]string{byDefault: "verified by key 1", byName: "verified by key 2"} {
		awaitMessage(t, db, id, "state = 'delivered'")
		if got := receiver.said(); !strings.Contains(lineWith(got, id.String()), want) {
			t.Errorf("no line about %s contains %q:\n%s", id, want, got)
		}
	}
	worker.end()
	receiver.end()
}

func TestAMessageWaitsForItsKeyAndIsSentWhenTheFileHasIt(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	shared, private := generated(t, webhook.HMAC), generated(t, webhook.Ed25519)
	receiver := beginReceiver(t, "--keys-file", keysFile(t, publicText(private)))
	id := signedBy(t, db, receiver.url, "acme")
	file := keysFile(t, "default = "+shared.Reveal())
	worker, admin := beginWorker(t, append(environment(db), "OUTBOX_SIGNING_KEYS_FILE="+file))
	awaitMessage(t, db, id, "waits_for IS NOT NULL AND locked_by IS NULL")
	invoke(t, environment(db), "show", id.String()).wants(t, exitOK, "state      pending, next attempt in ",
		`waits for  signing key "acme": this worker `, `options    {"signing_key": "acme"}`, "no attempts yet")
	invoke(t, environment(db), "list").wants(t, exitOK, `waits for: signing key "acme": this worker `)

	replaceKeys(t, file, "default = "+shared.Reveal(), "acme = "+private.Reveal())
	awaitJWKS(t, admin, `"acme/`+private.ID())
	invoke(t, environment(db), "replay", id.String()).wants(t, exitOK) // without this, the next attempt comes after half a minute
	receiver.line("verified by key 1")
	awaitMessage(t, db, id, "state = 'delivered' AND attempts = 1 AND waits_for IS NULL")
	_, rest := worker.end()
	line := lineWith(rest, "signing keys in force")
	if !strings.Contains(line, `"names":["acme","default"]`) {
		t.Errorf("the line about the change is %q, want the names of both sets", line)
	}
	invocation{stdout: worker.said()}.hides(t, shared, private)
	receiver.end()
}

// lineWith returns the first line of a text that contains a word.
func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func TestAReceiverWithAnotherKeyRefusesAndTheOperatorSeesWhy(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t, "--keys-file", keysFile(t, generated(t, webhook.HMAC).Reveal()))
	id := signedBy(t, db, receiver.url, "")
	worker, _ := beginWorker(t, append(environment(db), "OUTBOX_SIGNING_KEYS=default="+generated(t, webhook.HMAC).Reveal()))
	if line := receiver.line("NOT VERIFIED: no webhook signature matches: 1 given, 1 keys"); !strings.Contains(line, "401") {
		t.Errorf("the line is %q, want a 401", line)
	}
	awaitMessage(t, db, id, "state = 'dead'")
	invoke(t, environment(db), "show", id.String()).wants(t, exitOK, ", refused: answered 401 Unauthorized", "no webhook signature matches")
	invoke(t, environment(db), "list").wants(t, exitOK, "refused: answered 401 Unauthorized")
	worker.end()
	_, rest := receiver.end()
	if !strings.Contains(rest, "1 request refused: not verified") {
		t.Errorf("the summary is\n%s\nwant one request refused", rest)
	}
}

func TestAKeyFileThatBecomesFaultyIsLoggedAndChangesNothing(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	private, damaged := generated(t, webhook.Ed25519), generated(t, webhook.Ed25519)
	receiver := beginReceiver(t, "--keys-file", keysFile(t, publicText(private)))
	file := keysFile(t, "acme = "+private.Reveal())
	worker, admin := beginWorker(t, append(environment(db), "OUTBOX_SIGNING_KEYS_FILE="+file))
	if !strings.Contains(worker.said(), "messages that name no key are sent unsigned") {
		t.Errorf("the log does not warn that the default set is missing:\n%s", worker.said())
	}
	replaceKeys(t, file, "acme = "+damaged.Reveal()[:50], "default = ")
	line := awaitKeyLog(t, worker, admin, "the file of signing keys changed and cannot be used; the keys in force stay")
	if !strings.Contains(line, `line 1: set \"acme\": key 1: webhook key`) || !strings.Contains(line, `line 2: set \"default\": 0 keys`) {
		t.Errorf("the line is %s, want both faults", line)
	}
	id := signedBy(t, db, receiver.url, "acme")
	awaitMessage(t, db, id, "state = 'delivered'")
	worker.end()
	invocation{stdout: worker.said()}.hides(t, private, damaged)
	receiver.end()
}

func TestTheAdminServerServesTheJWKS(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	private := generated(t, webhook.Ed25519)
	env := append(environment(db), "OUTBOX_SIGNING_KEYS=default="+private.Reveal()+","+generated(t, webhook.HMAC).Reveal())
	worker, admin := beginWorker(t, env)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Head("http://" + admin + "/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if h := response.Header; h.Get("Content-Type") != "application/jwk-set+json" || h.Get("Cache-Control") != "max-age=300" {
		t.Errorf("the headers are %v, want the type of a JWK set, and max-age=300", h)
	}
	status, text := get(t, "http://"+admin+"/.well-known/jwks.json")
	if printed := invoke(t, env, "keys", "public"); status != http.StatusOK || text != printed.stdout || !strings.Contains(text, private.ID()) {
		t.Errorf("the answer is %d\n%swant that of keys public:\n%s", status, text, printed.stdout)
	}
	worker.end()
}

func TestWithoutKeysAWorkerWarnsOnceAndSendsUnsigned(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t)
	free, bound := signedBy(t, db, receiver.url, ""), signedBy(t, db, receiver.url, "acme")
	worker, admin := beginWorker(t, environment(db))
	awaitMessage(t, db, free, "state = 'delivered'")
	awaitMessage(t, db, bound, "waits_for LIKE 'signing key \"acme\"%'")
	awaitJWKS(t, admin, `"keys": []`)
	worker.end()
	if n := strings.Count(worker.said(), "sent unsigned"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, worker.said())
	}
	receiver.end()
}
