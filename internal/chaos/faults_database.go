package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// kinds are all faults.
func kinds() []kind {
	all := append(processKinds(), networkKinds()...)
	all = append(all,
		kind{"crash", drawCrash},
		kind{"terminate", drawTerminate},
		kind{"read-only", drawReadOnly},
		kind{"failover", drawFailover},
	)
	return append(all, rowKinds()...)
}

const databaseGroup = "database" // of these, one at a time

// drawCrash plans an immediate shutdown. Commits that did not wait for the disk may be lost.
func drawCrash(s *stage, r *rand.Rand) planned {
	return planned{
		kind: "crash", group: databaseGroup, touches: touches{everything: true}, length: between(r, 0, 4*time.Second),
		make: func(context.Context, touch) (undo, error) {
			if err := s.servers.primary.Crash(); err != nil {
				return nil, err
			}
			return s.restart, nil
		},
	}
}

// restart returns when the standby follows again: until then no commit ends.
func (s *stage) restart(ctx context.Context) error {
	err := s.servers.primary.Restart(ctx)
	if err == nil && s.servers.standby != nil {
		err = s.servers.primary.WaitReplicated(ctx)
	}
	return err
}

// drawFailover plans a crash of the primary: the standby takes over, and the old primary becomes the new standby. No answered
// commit is lost, because commits wait for the standby. While there is no standby, they do not wait.
func drawFailover(s *stage, r *rand.Rand) planned {
	return planned{
		kind: "failover", group: databaseGroup, touches: touches{everything: true}, length: between(r, 0, time.Second),
		make: func(ctx context.Context, _ touch) (undo, error) {
			if err := s.servers.primary.WaitReplicated(ctx); err != nil {
				return nil, err
			}
			if err := s.servers.primary.Crash(); err != nil {
				return nil, err
			}
			if err := s.servers.standby.Promote(ctx); err != nil {
				return nil, err
			}
			s.servers.primary, s.servers.standby = s.servers.standby, s.servers.primary
			return s.rejoin, s.retarget()
		},
	}
}

// drawTerminate plans that an administrator ends sessions.
func drawTerminate(s *stage, r *rand.Rand) planned {
	share := 0.1 + 0.9*r.Float64()
	return planned{
		kind: "terminate", group: databaseGroup, detail: fmt.Sprintf("%.0f %% of the sessions", share*100), touches: touches{everything: true},
		make: func(ctx context.Context, touch touch) (undo, error) {
			_, err := s.admin.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND application_name <> $1 AND random() < $2`, adminName, share)
			return nil, err
		},
	}
}

// drawReadOnly plans that transactions are read-only by default, as after a move or with a full disk.
func drawReadOnly(s *stage, r *rand.Rand) planned {
	return planned{
		kind: "read-only", group: databaseGroup, touches: touches{everything: true}, length: between(r, time.Second, 6*time.Second),
		make: func(ctx context.Context, touch touch) (undo, error) {
			err := s.each(ctx, `ALTER SYSTEM SET default_transaction_read_only = on`, `SELECT pg_reload_conf()`)
			return func(ctx context.Context) error {
				return s.each(ctx, `ALTER SYSTEM RESET default_transaction_read_only`, `SELECT pg_reload_conf()`)
			}, err
		},
	}
}

// each runs the administrator's statements, one after the other.
func (s *stage) each(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := s.admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(strings.Fields(statement), " "), err)
		}
	}
	return nil
}
