//go:build unix

package throwaway

import (
	"slices"
	"strings"
	"testing"
)

func TestTheHighestVersionComesFirst(t *testing.T) {
	got := highestFirst([]string{
		"/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/latest/bin", "/usr/lib/postgresql/15/bin",
	})
	want := []string{
		"/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/latest/bin",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAVersionBelowFourteenIsRejected(t *testing.T) {
	for line, want := range map[string]string{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": "15.18",
		"postgres (PostgreSQL) 14.0":                             "14.0",
		"postgres (PostgreSQL) 18beta1":                          "18beta1",
		"postgres (PostgreSQL) 13.20":                            "version 13.20 is older than 14",
		"postgres (PostgreSQL) 9.6.24":                           "version 9.6.24 is older than 14",
		"busybox\n":                                              `it says "busybox" in place of a version`,
	} {
		got, err := parseVersion(line)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

func TestSettingsAddToTheDefaults(t *testing.T) {
	const rest = "-c max_connections=200 -c shared_buffers=128MB -c synchronous_commit=on"
	for _, c := range []struct {
		name   string
		wanted map[string]string
		want   string
	}{
		{"none", nil, "-c fsync=off -c full_page_writes=off " + rest},
		{"fsync brings full pages back", map[string]string{"fsync": "on"}, "-c fsync=on " + rest},
		{"both as wanted", map[string]string{"fsync": "on", "full_page_writes": "off"}, "-c fsync=on -c full_page_writes=off " + rest},
		{"another", map[string]string{"work_mem": "1MB"}, "-c fsync=off -c full_page_writes=off " + rest + " -c work_mem=1MB"},
	} {
		args, err := settingArgs(c.wanted)
		must(t, err)
		if got := strings.Join(args, " "); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	for _, wrong := range []string{"port", "listen_addresses", "FSYNC"} {
		if _, err := settingArgs(map[string]string{wrong: "1"}); err == nil {
			t.Errorf("the setting %s returns no error, want one", wrong)
		}
	}
}
