package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

func generated(t *testing.T, kind webhook.Kind) webhook.Key {
	t.Helper()
	key, err := webhook.Generate(kind)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keysFile writes a file of keys. replaceKeys replaces it.
func keysFile(t *testing.T, lines ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys")
	replaceKeys(t, path, lines...)
	return path
}

func replaceKeys(t *testing.T, path string, lines ...string) {
	t.Helper()
	err := os.WriteFile(path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// traces returns texts that would give a key away: the start of its secret, as text, bytes and hex.
func traces(t *testing.T, key webhook.Key) []string {
	t.Helper()
	_, encoded, _ := strings.Cut(key.Reveal(), "_")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return []string{encoded[:16], string(raw[:12]), hex.EncodeToString(raw[:12])}
}

// hides checks that no trace of the keys is in the output.
func (i invocation) hides(t *testing.T, keys ...webhook.Key) {
	t.Helper()
	for _, key := range keys {
		for _, trace := range traces(t, key) {
			if strings.Contains(i.stdout+i.stderr, trace) {
				t.Errorf("the output contains %q of a key, want no trace of it:\n%s%s", trace, i.stdout, i.stderr)
			}
		}
	}
}

func TestKeysGeneratePrintsAKeyAndNothingElse(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range []struct {
		args string
		kind webhook.Kind
	}{{"", webhook.HMAC}, {"--type hmac", webhook.HMAC}, {"--type Ed25519", webhook.Ed25519}} {
		got := invoke(t, nil, strings.Fields("keys generate "+c.args)...)
		got.wants(t, exitOK)
		key, err := webhook.ParseKey(got.stdout)
		if err != nil || key.Kind() != c.kind || got.stdout != key.Reveal()+"\n" || seen[got.stdout] {
			t.Errorf("%s prints %q, %v; want a new key of this kind", c.args, got.stdout, err)
		}
		seen[got.stdout] = true
		if public := publicText(key); !strings.Contains(got.stderr, public) || public == "" && got.stderr != "" {
			t.Errorf("%s writes %q to stderr, want the public half, or nothing", c.args, got.stderr)
		}
		invocation{stderr: got.stderr}.hides(t, key)

		got = invoke(t, nil, strings.Fields("keys generate --json "+c.args)...)
		v := decoded[generatedKey](t, got)
		if key, err = webhook.ParseKey(v.Key); err != nil || key.Kind() != c.kind || v.Public != publicText(key) || v.ID != key.ID() || got.stderr != "" {
			t.Errorf("%s --json prints %+v, and %q to stderr; want the key and its public half, and nothing", c.args, v, got.stderr)
		}
	}
}

func TestKeysPublicAndListShowNoSecret(t *testing.T) {
	t.Parallel()
	shared, old, fresh, acme := generated(t, webhook.HMAC), generated(t, webhook.Ed25519), generated(t, webhook.Ed25519), generated(t, webhook.Ed25519)
	env := []string{
		"OUTBOX_SIGNING_KEYS=default=" + shared.Reveal() + "," + old.Reveal() + " partner=" + shared.Reveal(),
		"OUTBOX_SIGNING_KEYS_FILE=" + keysFile(t, "acme = "+acme.Reveal()+" "+fresh.Reveal()),
	}
	type set struct {
		Keys []map[string]string `json:"keys"`
	}
	for args, want := range map[string][]webhook.Key{"": {acme, fresh, old}, "--name acme": {acme, fresh}, "--name default": {old}, "--name partner": {}} {
		got := invoke(t, env, strings.Fields("keys public "+args)...)
		got.wants(t, exitOK)
		got.hides(t, shared, old, fresh, acme)
		keys := decoded[set](t, got).Keys
		if keys == nil || len(keys) != len(want) || (len(want) == 0) != strings.Contains(got.stderr, "there is no ed25519 key") {
			t.Fatalf("%s prints %s%s\nwant %d keys", args, got.stdout, got.stderr, len(want))
		}
		for i, key := range want {
			if keys[i]["x"] != base64.RawURLEncoding.EncodeToString(key.PublicBytes()) || !strings.HasSuffix(keys[i]["kid"], "/"+key.ID()) {
				t.Errorf("%s: key %d is %v, want the public bytes and the id of the key", args, i+1, keys[i])
			}
		}
	}
	invoke(t, env, "keys", "public", "--name", "acmo").wants(t, exitNotFound, `no set is called "acmo"; did you mean acme?`)

	list := invoke(t, env, "keys", "list")
	list.wants(t, exitOK, "default  hmac     -                 -\n", "acme     ed25519  "+acme.ID()+"  "+publicText(acme)+"\n")
	asJSON := invoke(t, env, "keys", "list", "--json")
	if keys := decoded[[]listedKey](t, asJSON); len(keys) != 5 || keys[0] != (listedKey{"acme", typeEd25519, acme.ID(), publicText(acme)}) {
		t.Errorf("got %+v, want five keys, acme's Ed25519 key first", keys)
	}
	config := invoke(t, append(env, goodURL), "config")
	config.wants(t, exitOK, "\nOUTBOX_SIGNING_KEYS=default=xxxxx,xxxxx;partner=xxxxx\n")
	for _, got := range []invocation{list, asJSON, config} {
		got.hides(t, shared, old, fresh, acme)
	}
}

func TestAllFaultsOfTheKeysAreReportedAtOnceWithoutAKey(t *testing.T) {
	t.Parallel()
	good, cut := generated(t, webhook.HMAC), generated(t, webhook.Ed25519)
	damaged := cut.Reveal()[:60]
	file := keysFile(t, "acme = "+damaged, "default = "+good.Reveal(), "broken")
	for _, command := range []string{"config", "run", "keys list"} {
		got := invoke(t, []string{goodURL, "OUTBOX_SIGNING_KEYS=a=" + damaged + ";b=", "OUTBOX_SIGNING_KEYS_FILE=" + file, "OUTBOX_RECEIVE_KEYS=" + damaged},
			strings.Fields(command)...)
		got.wants(t, exitUsage, `OUTBOX_SIGNING_KEYS cannot be read: entry 1: set "a": key 1: webhook key`, `; entry 2: set "b": 0 keys`,
			"OUTBOX_SIGNING_KEYS_FILE: key file "+file+`: line 1: set "acme": key 1`, "; line 3: no =")
		if command != "keys list" {
			got.wants(t, exitUsage, "OUTBOX_RECEIVE_KEYS cannot be read: key 1: webhook key")
		}
		got.hides(t, good, cut)
	}
	invoke(t, []string{goodURL, "OUTBOX_SIGNING_KEYS=default=" + good.Reveal(), "OUTBOX_SIGNING_KEYS_FILE=" + keysFile(t, "default = "+good.Reveal())}, "run").
		wants(t, exitUsage, `OUTBOX_SIGNING_KEYS_FILE: key file`, `set "default" is in the environment too`)
	invoke(t, []string{goodURL, "OUTBOX_SIGNING_KEYS_FILE=/nowhere/keys"}, "run").wants(t, exitUsage, "OUTBOX_SIGNING_KEYS_FILE: key file /nowhere/keys: no such file")
	invoke(t, nil, "keys", "public").wants(t, exitUsage, "there are no signing keys: set OUTBOX_SIGNING_KEYS")
	operator := invoke(t, []string{"OUTBOX_DATABASE_URL=postgres://127.0.0.1:1/app", "OUTBOX_SIGNING_KEYS_FILE=/nowhere/keys"}, "status")
	operator.wants(t, exitFailed, "the database cannot be reached") // status does not need the keys
}

func TestAKeyInTheWrongPlaceIsNotShown(t *testing.T) {
	t.Parallel()
	for _, kind := range []webhook.Kind{webhook.HMAC, webhook.Ed25519} {
		key := generated(t, kind)
		for _, args := range [][]string{
			{key.Reveal()}, {"keys", key.Reveal()}, {"keys", "list", key.Reveal()}, {"keys", "generate", "--type", key.Reveal()},
			{"keys", "public", "--name", key.Reveal()}, {"receive", "--keys-file", key.Reveal()}, {"show", key.Reveal()},
			{"receive", "--addr", key.Reveal()},
		} {
			got := invoke(t, []string{goodURL, "OUTBOX_SIGNING_KEYS=default=" + generated(t, webhook.HMAC).Reveal()}, args...)
			if got.status == exitOK || got.stdout != "" {
				t.Errorf("%v ends with %d and prints %s, want a failure and no output", args[:len(args)-1], got.status, got.stdout)
			}
			got.hides(t, key)
		}
		for _, variable := range []string{"OUTBOX_SIGNING_KEYS_FILE", "OUTBOX_SIGNING_KEYS", "OUTBOX_LOG_LEVEL", "OUTBOX_LEASE", "OUTBOX_ADMIN_ADDR"} {
			got := invoke(t, []string{goodURL, variable + "=" + key.Reveal()}, "config")
			got.wants(t, exitUsage, variable)
			got.hides(t, key)
		}
		got := invoke(t, []string{goodURL, "OUTBOX_RECEIVE_KEYS=" + key.Reveal()}, "config", "--json")
		got.wants(t, exitOK, string(kind)+"_xxxxx")
		got.hides(t, key)
		if !json.Valid([]byte(got.stdout)) {
			t.Errorf("config --json prints %s, want JSON", got.stdout)
		}
	}
}
