package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/migrations"
)

// version is what this program was built from.
type version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Time     string `json:"time"` // of the commit
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Tables   int64  `json:"tables"` // version of the outbox's tables that it knows
}

func buildVersion() version {
	v := version{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Tables: migrations.Latest()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (v version) line() string {
	text := "outbox-worker " + v.Version
	if v.Commit != "" {
		text += fmt.Sprintf(" (commit %.12s of %s", v.Commit, v.Time)
		if v.Modified {
			text += ", modified"
		}
		text += ")"
	}
	return text
}

func (p *program) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "what this program was built from",
		Long:    "Prints the version and commit of this program, its Go version, and the version of the tables that it knows.",
		Example: "  outbox-worker version\n  outbox-worker version --json",
		Args:    takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			if asJSON {
				return p.printJSON(v)
			}
			p.printf("%s\n%s %s\ntables version %d\n", v.line(), v.Go, v.Platform, v.Tables)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
