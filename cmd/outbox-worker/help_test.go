package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commands calls f with every command.
func commands(root *cobra.Command, f func(*cobra.Command)) {
	f(root)
	for _, c := range root.Commands() {
		commands(c, f)
	}
}

func TestTheHelpOfEveryCommandShowsAnExample(t *testing.T) {
	t.Parallel()
	p := &program{stdout: &output{}}
	commands(p.rootCommand(), func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" || !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: want a short and a long description, and an example that calls it", c.CommandPath())
		}
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		invoke(t, nil, args...).wants(t, exitOK, "Examples:", strings.TrimSpace(c.Example))
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			if len([]rune(line)) > 121 {
				t.Errorf("%s: a line of its help is longer than 120: %s", c.CommandPath(), line)
			}
		}
	})
}

func TestTheHelpNamesTheExitStatuses(t *testing.T) {
	t.Parallel()
	invoke(t, nil).wants(t, exitOK, "Exit status:", "  4  the schema is not migrated")
}

func TestTheErrorOfATypingMistakeNamesTheNearestWord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		want string
	}{
		{"lst", "did you mean list?"},
		{"statsu", "did you mean status?"},
		{"migrate upp", "did you mean up?"},
		{"migrate", "name one of down, sql, status, up"},
		{"list --stat dead", "there is no flag --stat; did you mean --state?"},
		{"list --state deda", "did you mean dead?"},
		{"list --limit many", `--limit is "many"; want a whole number`},
		{"list --limit 0", "--limit is 0; want 1 to 100000"},
		{"list --older-than yesterday", "want a duration like 90s, 15m, 36h or 7d"},
		{"list --older-than -1h", "want a duration like 90s"},
		{"list --newer-than 1h --older-than 2h", "leave nothing between them"},
		{"list --endpoint https://A.example/x", "want the origin of the URL, https://a.example"},
		{"list --ids --json", "--ids and --json exclude each other"},
		{"list dead", `list takes no argument, but there is "dead"`},
		{"list --limit", "flag needs an argument"},
		{"show", "show: name one message by its id"},
		{"show 1 2", `"2" is one too many`},
		{"show 4711", "want a UUID like"},
		{"replay", "or - to read them from stdin"},
		{"replay --dead", "--dead and --endpoint go together"},
		{"replay --dead --endpoint https://a.example 4711", "takes no argument"},
		{"replay 0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10 --url ftp://x", `--url: url: scheme "ftp"`},
		{"cancel -", "no ids on stdin"},
		{"pause hooks.example.com", "url: relative"},
		{"completion tcsh", "there is no shell tcsh"},
		{"receive --fail 300%", "want a share from 0% to 100%"},
		{"receive --status 99 --retry-after 1500ms", "--retry-after is 1.5s; want whole seconds"},
		{"keys", "name one of generate, list, public"},
		{"keys generat", "did you mean generate?"},
		{"keys generate --type rsa", `--type is "rsa"; want hmac or ed25519`},
		{"-x", "there is no flag -x"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			got := invoke(t, []string{goodURL}, strings.Fields(c.args)...)
			got.wants(t, exitUsage, c.want)
			if got.stdout != "" || !strings.HasPrefix(got.stderr, "outbox-worker: ") || strings.Contains(got.stderr, "Usage:") {
				t.Errorf("want one error on stderr and no usage:\n%s%s", got.stdout, got.stderr)
			}
		})
	}
}

func TestVersionNamesWhatTheProgramWasBuiltFrom(t *testing.T) {
	t.Parallel()
	got := invoke(t, nil, "version", "--json")
	got.wants(t, exitOK)
	if v := decoded[version](t, got); v.Tables < 1 || !strings.HasPrefix(v.Go, "go") || v.Version == "" {
		t.Errorf("got %+v, want a version, that of Go and that of the tables", v)
	}
	invoke(t, nil, "version").wants(t, exitOK, "outbox-worker ", "tables version ")
	invoke(t, nil, "--version").wants(t, exitOK, "outbox-worker ")
}

func TestShellsCompleteCommandsFlagsAndStates(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		invoke(t, nil, "completion", shell).wants(t, exitOK, "outbox-worker")
	}
	for _, c := range []struct{ typed, want string }{
		{"re", "receive\t"},
		{"completion z", "zsh"},
		{"list --st", "--state"},
		{"list --state de", "delivering\ndelivered\ndead"},
		{"list --state dead,retrying,dea", "\n:"}, // dead is in the list already
		{"list --state dead,p", "dead,pending"},
	} {
		got := invoke(t, nil, append([]string{"__complete"}, strings.Fields(c.typed)...)...)
		if !strings.Contains("\n"+got.stdout, c.want) || got.status != exitOK {
			t.Errorf("%q completes to %q, want %q", c.typed, got.stdout, c.want)
		}
	}
}
