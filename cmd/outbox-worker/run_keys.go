package main

import (
	"context"
	"log/slog"
	"slices"

	"github.com/seed-abbacb8b/epilogue/internal/keyring"
	"github.com/seed-abbacb8b/epilogue/worker"
)

// openKeys returns the signing keys of a worker. It logs the names of the sets now and at every change, and nothing of the
// keys.
func (s settings) openKeys(log *slog.Logger) (*keyring.Ring, error) {
	ring, err := s.keyring(func(e keyring.Event) { logKeys(log, e) })
	switch {
	case err != nil:
		return nil, err
	case !s.signs():
		log.Warn("messages are sent unsigned: there are no signing keys; set OUTBOX_SIGNING_KEYS or OUTBOX_SIGNING_KEYS_FILE")
	case s.SigningKeysFile == "":
		logKeys(log, keyring.Event{Names: ring.Names()})
	}
	return ring, nil
}

func logKeys(log *slog.Logger, e keyring.Event) {
	const namesShown = 20
	if e.Warning != "" {
		log.Warn("the file of signing keys is open to others", "file", e.File, "fault", e.Warning)
	}
	if e.Err != nil {
		log.Error("the file of signing keys changed and cannot be used; the keys in force stay", "error", e.Err)
		return
	}
	log.Info("signing keys in force", "sets", len(e.Names), "names", e.Names[:min(len(e.Names), namesShown)])
	if !slices.Contains(e.Names, keyring.Default) {
		log.Warn("messages that name no key are sent unsigned: no set of signing keys is called " + keyring.Default)
	}
}

// reread reads the files of keys and certificates again, and logs the result for each.
func reread(ctx context.Context, log *slog.Logger, keys *keyring.Ring, w *worker.Worker) {
	log.InfoContext(ctx, "received SIGHUP: reading the files of keys and certificates again")
	keys.Reread() // logs its own result
	for _, file := range w.RereadCertificates() {
		setting := variableOf(file.Name)
		if file.Err != nil {
			log.ErrorContext(ctx, "a file cannot be used; what was in force stays", "setting", setting, "error", file.Err)
			continue
		}
		log.InfoContext(ctx, "read again and in force", "setting", setting)
	}
}
