//go:build unix

package throwaway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestAServerNamedInTheEnvironmentIsUsedAndNotStopped(t *testing.T) {
	own, _ := startOwnServer(t, nil)
	t.Setenv(URLVariable, own.URL())
	named, err := Start(t.Context(), Options{Log: t.Logf})
	must(t, err)
	if named.Owned() || named.URL() != own.URL() || named.Version() != own.Version() {
		t.Errorf("got the server %s, version %s, owned %v; want %s, version %s, not owned", named.URL(), named.Version(), named.Owned(), own.URL(), own.Version())
	}
	if err := named.Crash(); !errors.Is(err, errNotOwned) {
		t.Errorf("Crash returns %v, want %v", err, errNotOwned)
	}
	if err := named.Restart(t.Context()); !errors.Is(err, errNotOwned) {
		t.Errorf("Restart returns %v, want %v", err, errNotOwned)
	}
	must(t, named.Stop())
	if got := query(t, own.URL(), "SELECT 1::text"); got != "1" {
		t.Errorf("after Stop, SELECT 1 returns %q, want 1", got)
	}

	execute(t, own.URL(), "CREATE ROLE guest LOGIN")
	t.Setenv(URLVariable, strings.Replace(own.URL(), "postgres@", "guest@", 1))
	if _, err := Start(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "may not create schemas") {
		t.Errorf("Start returns %v, want that the user may not create schemas", err)
	}
}

func TestAnUnusableNamedServerIsAnErrorThatHidesThePassword(t *testing.T) {
	const password = "s3cr3t"
	port, err := freePort()
	must(t, err)
	for name, url := range map[string]string{
		"a URL":                fmt.Sprintf("postgres://me:%s@127.0.0.1:%d/db", password, port),
		"a URL with a query":   fmt.Sprintf("postgres://127.0.0.1:%d/db?user=me&password=%s", port, password),
		"settings":             fmt.Sprintf("host=127.0.0.1 port=%d user=me password=%s", port, password),
		"a broken URL":         "postgres://me:" + password + "/@:x@127.0.0.1:port/db",
		"broken settings":      "host=127.0.0.1 password='" + password,
		"an unknown sslmode":   "postgres://me:" + password + "@127.0.0.1/db?sslmode=perhaps",
		"not Postgres at all":  "mysql://me:" + password + "@127.0.0.1/db",
		"a name without hosts": "postgres://me:" + password + "@name.invalid/db",
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			t.Setenv(URLVariable, url)
			_, err := Start(t.Context(), Options{Log: func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) }})
			if err == nil {
				t.Fatal("Start returns no error, want one")
			}
			t.Logf("error: %v\nlog: %s", err, said.String())
			if !strings.Contains(err.Error(), URLVariable) {
				t.Error("the error doesn't name the variable")
			}
			if strings.Contains(err.Error()+said.String(), password) {
				t.Error("the password is shown")
			}
		})
	}
}

func TestTheOptionOwnIgnoresTheNamedServer(t *testing.T) {
	t.Setenv(URLVariable, "postgres://nobody@127.0.0.1:1/none")
	s, _ := startOwnServer(t, nil)
	if !s.Owned() {
		t.Error("Owned is false, want a server of our own")
	}
}
