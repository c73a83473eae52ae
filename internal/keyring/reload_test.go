package keyring_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/keyring"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// Every sleep in this file is in a synctest bubble: it moves the bubble's fake clock, and takes no real time.

func TestANewFileIsInForceWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b, fixed := hmacKey(t), hmacKey(t), hmacKey(t)
		path := newFile(t, "acme = "+a)
		age(t, path, time.Hour)
		r, events := open(t, "default="+fixed, path)
		write(t, path, "acme = "+b+" "+a+"\nother = "+b)
		holds(t, r, "acme", a)  // the ring has not checked the file yet
		time.Sleep(time.Second) // fake time: until the ring checks the file again
		holds(t, r, "acme", b, a)
		holds(t, r, "other", b)
		holds(t, r, "", fixed)
		if got := fmt.Sprint(*events); len(*events) != 2 || (*events)[1].Err != nil || !strings.Contains(got, "[acme default other]") {
			t.Errorf("reported %s, want a second report without an error, with the names of the three sets", got)
		}
	})
}

// TestTheRingNoticesEveryWayToChangeTheFile: each way changes another property of the file.
func TestTheRingNoticesEveryWayToChangeTheFile(t *testing.T) {
	t.Parallel()
	a, b := hmacKey(t), hmacKey(t) // of the same length
	for name, change := range map[string]func(*testing.T, string){
		"in place, at another time": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte("default="+b), 0o600))
			age(t, path, time.Minute)
		},
		"in place, to another size": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte("default="+b+" "), 0o600))
			age(t, path, time.Hour)
		},
		"by a rename, with the same time and size": func(t *testing.T, path string) {
			write(t, path, "default="+b)
			age(t, path, time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				path := newFile(t, "default="+a)
				age(t, path, time.Hour)
				r, _ := open(t, "", path)
				change(t, path)
				time.Sleep(time.Second) // fake time: until the ring checks the file again
				holds(t, r, "", b)
			})
		})
	}
}

// TestAFileIsReadAgainOnDemand: a report follows even if nothing changed, or if the fault is an old one.
func TestAFileIsReadAgainOnDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := hmacKey(t), hmacKey(t)
		path := newFile(t, "default="+a)
		age(t, path, time.Hour)
		r, events := open(t, "", path)
		write(t, path, "default="+b)
		r.Reread()
		holds(t, r, "", b)
		write(t, path, "default=wrong")
		for _, reports := range []int{3, 4} {
			r.Reread()
			holds(t, r, "", b)
			if n := len(*events); n != reports || (*events)[n-1].Err == nil {
				t.Errorf("reported %d times, want %d; the last error is %v, want one", n, reports, (*events)[n-1].Err)
			}
		}
		without, err := keyring.Open("default="+a, "", nil)
		must(t, err)
		without.Reread()
	})
}

// A file that was written just now may be written again within the same tick of the clock, to the same size.
func TestAFreshFileIsReadAgain(t *testing.T) {
	t.Parallel()
	a, b := hmacKey(t), hmacKey(t)
	synctest.Test(t, func(t *testing.T) {
		path := newFile(t, "default="+a)
		now := time.Now() // fake time, which the ring uses too
		must(t, os.Chtimes(path, now, now))
		r, _ := open(t, "", path)
		must(t, os.WriteFile(path, []byte("default="+b), 0o600))
		must(t, os.Chtimes(path, now, now))
		time.Sleep(time.Second) // fake time: until the ring checks the file again
		holds(t, r, "", b)
	})
}

// Kubernetes: keys -> ..data/keys, ..data -> ..2024_1, and an update renames another ..data over it.
func TestASwappedSymbolicLinkIsFollowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := hmacKey(t), hmacKey(t)
		dir := t.TempDir()
		for version, key := range map[string]string{"..2024_1": a, "..2024_2": b} {
			must(t, os.Mkdir(filepath.Join(dir, version), 0o755))
			path := filepath.Join(dir, version, "keys")
			must(t, os.WriteFile(path, []byte("default="+key), 0o644))
			age(t, path, time.Hour)
		}
		must(t, os.Symlink("..2024_1", filepath.Join(dir, "..data")))
		must(t, os.Symlink(filepath.Join("..data", "keys"), filepath.Join(dir, "keys")))
		r, events := open(t, "", filepath.Join(dir, "keys"))
		holds(t, r, "", a)
		must(t, os.Symlink("..2024_2", filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		time.Sleep(time.Second) // fake time: until the ring checks the file again
		holds(t, r, "", b)
		for _, e := range *events {
			if e.Warning != "" {
				t.Errorf("got the warning %q, want none: a mounted secret is readable to all by default", e.Warning)
			}
		}
	})
}

func TestAWrongFileChangesNothingAndIsReportedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := hmacKey(t), hmacKey(t)
		path := newFile(t, "acme="+a)
		r, events := open(t, "default="+b, path)
		reports := func(want int, fault string) {
			t.Helper()
			for range 5 {
				time.Sleep(time.Second) // fake time: until the ring checks the file again
				holds(t, r, "acme", a)
			}
			last := (*events)[len(*events)-1]
			if len(*events) != want || (fault == "") != (last.Err == nil) {
				t.Fatalf("reported %d times, want %d; the last report is %+v, want the fault %q", len(*events), want, last, fault)
			}
			if text := fmt.Sprint(last); !strings.Contains(text, fault) || strings.Contains(text, a[8:16]) {
				t.Errorf("the report is %s, want the fault %q and no key", text, fault)
			}
		}
		reports(1, "")
		write(t, path, "acme="+a[:20])
		reports(2, `line 1: set "acme": key 1`)
		must(t, os.Chtimes(path, time.Now(), time.Now())) // no change
		reports(2, `line 1`)
		write(t, path, "default="+a)
		reports(3, `set "default" is in the environment too`)
		must(t, os.Remove(path))
		reports(4, "no such file")
		must(t, os.Mkdir(path, 0o700))
		reports(5, "not a regular file")
		must(t, os.Remove(path))
		write(t, path, "acme="+a)
		reports(6, "")
		write(t, path, strings.Repeat("#", 17<<20))
		reports(7, "more than")
	})
}

func TestAFileThatOthersCanReadOrChangeCausesAWarning(t *testing.T) {
	t.Parallel()
	for mode, want := range map[os.FileMode]string{
		0o600: "", 0o400: "", 0o440: "", 0o640: "", 0o644: "every user of this machine can read it (mode 0644)",
		0o604: "can read it", 0o666: "can change it (mode 0666)", 0o660: "can change it", 0o602: "can change it",
	} {
		path := newFile(t, "default="+hmacKey(t))
		must(t, os.Chmod(path, mode))
		_, events := open(t, "", path)
		if got := (*events)[0].Warning; (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("mode %04o: got the warning %q, want %q", mode, got, want)
		}
	}
}

// Keys are rotated while a load signs without a pause. A receiver that follows the steps of a rotation refuses nothing.
func TestARotationUnderLoadIsNeverRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := []webhook.Key{generate(t, webhook.HMAC), generate(t, webhook.Ed25519), generate(t, webhook.HMAC)}
		path := newFile(t, "default="+keys[0].Reveal())
		r, _ := open(t, "", path)
		for i := 1; i < len(keys); i++ {
			old, fresh := keys[i-1], keys[i]
			verifier := webhook.Verifier{Keys: webhook.Keys{fresh, old}} // the receivers get the new key first
			for _, line := range []string{fresh.Reveal() + " " + old.Reveal(), fresh.Reveal()} {
				var load sync.WaitGroup
				for range 4 {
					load.Go(func() {
						for range 40 {
							time.Sleep(50 * time.Millisecond)
							signs(t, r, verifier)
						}
					})
				}
				write(t, path, "default="+line)
				load.Wait()
			}
			signs(t, r, webhook.Verifier{Keys: webhook.Keys{fresh}})
		}
	})
}

func signs(t *testing.T, r *keyring.Ring, v webhook.Verifier) {
	t.Helper()
	keys, _ := r.Keys("")
	now := time.Now()
	header := map[string][]string{
		"Webhook-Id": {"id"}, "Webhook-Timestamp": {webhook.Timestamp(now)}, "Webhook-Signature": {keys.Sign("id", now, nil)},
	}
	if _, err := v.Verify(header, nil); err != nil {
		t.Errorf("the receiver returns %v, want none", err)
	}
}

func TestManyGoroutinesCanUseARingAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := newFile(t, "default="+hmacKey(t))
		r, err := keyring.Open("", path, nil)
		must(t, err)
		var users sync.WaitGroup
		for range 8 {
			users.Go(func() {
				for range 100 {
					time.Sleep(100 * time.Millisecond)
					if keys, ok := r.Keys(""); !ok || len(keys) != 1 {
						t.Error("Keys returns no keys, want one")
					}
					if _, err := r.JWKS(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range 10 {
			time.Sleep(time.Second) // fake time: until the ring checks the file again
			write(t, path, "default="+hmacKey(t))
		}
		users.Wait()
	})
}

func BenchmarkKeys(b *testing.B) {
	r, _ := open(b, "", newFile(b, "default="+hmacKey(b)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.Keys(""); !ok {
			b.Fatal("no keys")
		}
	}
}
