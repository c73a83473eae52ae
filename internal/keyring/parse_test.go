package keyring_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/keyring"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

func TestASemicolonOrASpaceSeparatesEntries(t *testing.T) {
	t.Parallel()
	a, b, c := hmacKey(t), hmacKey(t), generate(t, webhook.Ed25519).Reveal()
	for _, text := range []string{
		"default=%s;acme=%s,%s", "default=%s acme=%s,%s", "default=%s\nacme=%s,%s\n", " ;default=%s ;\r\n\tacme=%s,%s,; ",
	} {
		r, _ := open(t, fmt.Sprintf(text, a, b, c), "")
		holds(t, r, "default", a)
		holds(t, r, "", a)
		holds(t, r, "acme", b, c)
		holds(t, r, "other")
		if got := r.Names(); !slices.Equal(got, []string{"acme", "default"}) {
			t.Errorf("got the names %v, want acme and default", got)
		}
	}
}

func TestAFileHasALineForEachSet(t *testing.T) {
	t.Parallel()
	a, b, c := hmacKey(t), hmacKey(t), generate(t, webhook.Ed25519).Reveal()
	r, _ := open(t, "", newFile(t, "# of the worker\n\ndefault = "+a+"\r\n  acme="+b+" , "+c+" # new, old\n#gone = x\nlast\t=\t"+c))
	holds(t, r, "", a)
	holds(t, r, "acme", b, c)
	holds(t, r, "last", c)
	if got := r.Names(); len(got) != 3 {
		t.Errorf("got the names %v, want 3", got)
	}
}

// TestAFileMayBeginWithAByteOrderMark: some editors write one, and do not say so.
func TestAFileMayBeginWithAByteOrderMark(t *testing.T) {
	t.Parallel()
	a := hmacKey(t)
	r, _ := open(t, "", newFile(t, "\uFEFFdefault = "+a+"\n"))
	holds(t, r, "", a)
}

func TestWithoutKeysARingIsEmpty(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", newFile(t, "# none yet\n")} {
		r, _ := open(t, " ;\n", path)
		holds(t, r, "")
		if got := r.Names(); len(got) != 0 {
			t.Errorf("got the names %v, want none", got)
		}
	}
}

func TestEveryFaultIsNamedAndNoKeyIsShown(t *testing.T) {
	t.Parallel()
	key, other, private := hmacKey(t), hmacKey(t), generate(t, webhook.Ed25519)
	public, _ := private.Public()
	bad := "whsec_" + strings.Repeat("x!", 20)
	for _, c := range []struct{ entry, want string }{
		{key, "entry 2: a key stands where the name"},
		{strings.TrimRight(key, "="), "entry 2: no =; want name=key"},
		{private.Reveal(), "entry 2: a key stands where the name"},
		{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=" + other + ",x", "entry 2: set (a name that may be a key): key 2"},
		{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=", "entry 2: set (a name that may be a key): 0 keys"},
		{"a/b=" + other, "entry 2: the name of the set is not 1 to 64"},
		{"=" + key, "entry 2: the name of the set is not 1 to 64"},
		{"Acme=", `entry 2: set "Acme": 0 keys`},
		{"Acme-2f7d3c6a8e10=", `entry 2: set "Acme-2f7d3c6a8e10": 0 keys`},
		{strings.Repeat("a", 65) + "=" + key, "entry 2: the name of the set is not"},
		{"acme=", `entry 2: set "acme": 0 keys; want 1 to 8`},
		{"acme=" + strings.TrimPrefix(key, "whsec_"), `entry 2: set "acme": key 1: webhook key: its text begins with none`},
		{"acme=" + other + "," + bad, `entry 2: set "acme": key 2: webhook key: what follows whsec_ is not standard base64`},
		{"acme=" + key + "," + other + "," + key, `entry 2: set "acme": key 3 is key 1 again`},
		{"acme=" + public.Reveal(), `entry 2: set "acme": key 1 is public`},
		{"first=" + key, `entry 2: set "first" stands in entry 1 already`},
		{"acme=" + strings.Repeat(key+",", keyring.KeysMax+1), `entry 2: set "acme": 9 keys; want 1 to 8`},
	} {
		_, err := keyring.Open("first="+other+" "+c.entry, "", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
		for _, secret := range []string{key, other, private.Reveal(), bad, "_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} {
			_, encoded, _ := strings.Cut(secret, "_")
			for i := 0; err != nil && i+8 <= len(encoded); i++ {
				if strings.Contains(err.Error(), encoded[i:i+8]) {
					t.Errorf("the error %v shows a key", err)
					break
				}
			}
		}
	}
}

func TestAllFaultsOfEntriesAndFileAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := keyring.Open("a= b=", newFile(t, "\nc =\n"), nil)
	for _, want := range []string{`entry 1: set "a"`, `entry 2: set "b"`, "keys: line 2: set \"c\""} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
	_, err = keyring.Open(strings.Repeat("junk ", 1000), "", nil)
	if err == nil || !strings.Contains(err.Error(), "and 990 faults more") || len(err.Error()) > 2000 {
		t.Errorf("the error of 1000 faults is %.3000v, want the first 10 and a count of the rest, in 2000 bytes at most", err)
	}
}

func TestTheBoundsOfATextAreAllowed(t *testing.T) {
	t.Parallel()
	var keys []string
	for range keyring.KeysMax {
		keys = append(keys, hmacKey(t))
	}
	entries := strings.Repeat("a", 64) + "=" + strings.Join(keys, ",")
	r, err := keyring.Open(entries, newFile(t, "b = "+keys[0]+"\n"+strings.Repeat("#", 16<<20-len("b = ")-len(keys[0])-1)), nil)
	must(t, err)
	if got, _ := r.Keys(strings.Repeat("a", 64)); len(got) != keyring.KeysMax {
		t.Errorf("got %d keys, want %d", len(got), keyring.KeysMax)
	}
	// A name of twelve characters with a capital may be a part of a key, so it is not shown. One of eleven is.
	for name, shown := range map[string]bool{"Aaaaaaaaaaa": true, "Aaaaaaaaaaaa": false, "aaaaaaaaaaaaaaaa": true} {
		_, err := keyring.Open(name+"=", "", nil)
		if got := err != nil && strings.Contains(err.Error(), name); got != shown {
			t.Errorf("does the error show %s? got %v, want %v: %v", name, got, shown, err)
		}
	}
	for n, want := range map[int]bool{10: false, 11: true} {
		_, err := keyring.Open(strings.Repeat("junk ", n), "", nil)
		if more := err != nil && strings.Contains(err.Error(), "more"); more != want || strings.Count(err.Error(), "no =") != 10 {
			t.Errorf("the error of %d faults is %v, want 10 of them", n, err)
		}
	}
}

func TestASetInBothPlacesIsAFault(t *testing.T) {
	t.Parallel()
	_, err := keyring.Open("acme="+hmacKey(t), newFile(t, "acme="+hmacKey(t)), nil)
	if err == nil || !strings.Contains(err.Error(), `set "acme" is in the environment too`) {
		t.Error(err)
	}
}

func TestAMissingFileIsAFaultAtTheStart(t *testing.T) {
	t.Parallel()
	for _, path := range []string{t.TempDir(), t.TempDir() + "/none"} {
		if r, err := keyring.Open("", path, nil); err == nil || r != nil || strings.Count(err.Error(), path) != 1 {
			t.Errorf("%s: got the error %v, want one that names the path once", path, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	key := hmacKey(f)
	f.Add("default=" + key)
	f.Add("a=" + key + ";b=" + key + "," + key)
	f.Add("whsec_=a=b")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := keyring.Open(text, "", nil)
		if (r == nil) == (err == nil) {
			t.Fatalf("got the ring %v and the error %v, want one of them", r, err)
		}
		if err != nil {
			return
		}
		for _, name := range r.Names() {
			if keys, ok := r.Keys(name); !ok || !keys.CanSign() || keyring.CheckName(name) != nil {
				t.Fatalf("the set %q has the keys %v, want a valid name and a key that can sign", name, keys)
			}
		}
		if errors.Is(err, webhook.ErrKey) {
			t.Fatal(err)
		}
	})
}
