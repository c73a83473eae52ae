package stand

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// Stand is what all trials share: a Postgres and a receiver, each a process of its own, and the worker's program for
// those that need the worker to be one as well.
type Stand struct {
	Receiver *Receiver

	server  *throwaway.Server
	builder builder
	cpu     cpuMeter
}

// postgresSettings make the server as durable as one in production, and large enough that a trial's tables stay in its
// memory. Without a checkpoint by time or size within a trial, none gets another's full-page images.
func postgresSettings() map[string]string {
	return map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min", "max_connections": "300",
	}
}

func settingsText() string {
	settings := postgresSettings()
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		parts = append(parts, name+"="+settings[name])
	}
	return strings.Join(parts, " ")
}

// New starts a stand. What takes long, it says; the caller closes it.
func New(ctx context.Context, say func(string, ...any)) (s *Stand, err error) {
	s = &Stand{builder: builder{say: say}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.server, err = throwaway.Start(ctx, throwaway.Options{Log: say, Own: true, Settings: postgresSettings(), Install: true})
	if err != nil {
		return s, err
	}
	if s.Receiver, err = startReceiver(); err != nil {
		return s, err
	}
	if s.cpu, err = newCPUMeter(ctx, s.server.URL(), s.Receiver.pid()); err != nil {
		return s, fmt.Errorf("CPU meter: %w", err)
	}
	return s, nil
}

// NewDatabase makes a schema for one trial.
func (s *Stand) NewDatabase(ctx context.Context) (*Database, error) {
	return newDatabase(ctx, s.server.URL())
}

// Close ends what New started.
func (s *Stand) Close() error {
	err := s.builder.remove()
	if s.Receiver != nil {
		err = errors.Join(err, s.Receiver.stop())
	}
	if s.server != nil {
		err = errors.Join(err, s.server.Stop())
	}
	return err
}
