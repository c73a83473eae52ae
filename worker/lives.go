package worker

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker/internal/roster"
)

// rosterConfig is what the worker reports about itself, and what it does when other workers die.
func rosterConfig(w *Worker) roster.Config {
	host, _ := os.Hostname()
	return roster.Config{
		Schema: w.config.Schema, Name: w.name, Host: host, Version: ownVersion(), Lease: w.config.Lease, Pool: w.pool.Pool,
		Report: func() roster.Report {
			report := roster.Report{InFlight: w.scheduler.InFlight()}
			if err := w.Ready(context.Background()); err != nil {
				report.NotReady = err.Error()
			}
			return report
		},
		Suspend: w.senders.suspend, Resume: w.senders.resume,
		Died: func(names []string) {
			w.scheduler.Woken(time.Now())
			w.teller.missing(names)
		},
		Logger: w.config.Logger,
	}
}

const module = "github.com/seed-abbacb8b/epilogue"

// ownVersion is the version of this module that the program was built with.
func ownVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == module {
		return info.Main.Version
	}
	for _, d := range info.Deps {
		if d.Path == module {
			return d.Version
		}
	}
	return "unknown"
}
