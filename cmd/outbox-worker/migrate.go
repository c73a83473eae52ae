package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/internal/session"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func (p *program) migrateCommand() *cobra.Command {
	return groupCommand(&cobra.Command{
		Use:   "migrate",
		Short: "migrate the outbox's tables up or down, show their version, or print the SQL",
		Long: `Migrates the outbox's tables, and River's beside them, in a schema of their own. It is safe to run twice, and from
several processes at once: one works, the others wait.`,
		Example: `  outbox-worker migrate up
  outbox-worker migrate status --json
  outbox-worker migrate up --schema billing_outbox
  outbox-worker migrate sql > outbox.sql`,
	}, p.migrateUpCommand(), p.migrateDownCommand(), p.migrateStatusCommand(), p.migrateSQLCommand())
}

// migration configures a migration of the schema, which reports its progress on stderr.
func (p *program) migration(schema string) migrations.Config {
	return migrations.Config{
		Schema: schema, Logger: slog.New(slog.NewTextHandler(p.stderr, nil)), Pooled: p.pooler == session.Transaction,
	}
}

func (p *program) migrateUpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "create the tables, or bring them up to date",
		Long: `Creates the schema and its tables, or brings them to the version that this program knows. A schema that a newer
version migrated is left as it is: that is no error while this program works on it.

While another transaction has locked a table, the migration tries again and again, for two seconds each time, so that
nothing queues behind it for longer.`,
		Example: "  outbox-worker migrate up",
		Args:    takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			pool, schema, err := p.database(cmd.Context())
			if err != nil {
				return err
			}
			config := p.migration(schema)
			if err := migrations.Up(cmd.Context(), pool, config); err != nil {
				return err
			}
			versions, err := migrations.Status(cmd.Context(), pool, config)
			if err != nil {
				return err
			}
			p.printf("schema %s is up to date: version %d\n", schema, versions.Outbox)
			return nil
		},
	}
}

func (p *program) migrateDownCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "remove the tables and everything in them",
		Long: `Removes the outbox's and River's tables with every message in them, and the schema unless it holds something else.
There is no way back. Without --yes it refuses, and says how many messages would be lost.`,
		Example: "  outbox-worker migrate down --yes",
		Args:    takes(0, 0, ""),
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.migrateDown(cmd.Context(), yes) },
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "remove them, with all messages")
	return cmd
}

func (p *program) migrateDown(ctx context.Context, yes bool) error {
	pool, schema, err := p.database(ctx)
	if err != nil {
		return err
	}
	config := p.migration(schema)
	if !yes {
		return p.refuseDown(ctx, config)
	}
	if err := migrations.Down(ctx, pool, config); err != nil {
		return err
	}
	p.printf("schema %s: the outbox is removed\n", schema)
	return nil
}

// refuseDown says what would be lost.
func (p *program) refuseDown(ctx context.Context, config migrations.Config) error {
	versions, err := migrations.Status(ctx, p.pool, config)
	if err != nil {
		return err
	}
	if versions.Outbox == 0 {
		return usagef("migrate down: schema %s holds no outbox; say --yes to remove the rest of one", config.Schema)
	}
	db, err := p.db(ctx)
	if err != nil {
		return err
	}
	store, err := operator.NewStore(db, config.Schema)
	if err != nil {
		return err
	}
	counts, err := store.Overview(ctx)
	if err != nil {
		return err
	}
	var all, waiting, dead int64
	for _, c := range counts {
		all += c.Messages
		switch c.State {
		case outbox.StatePending, outbox.StateDelivering, outbox.StateRetrying:
			waiting += c.Messages
		case outbox.StateDead:
			dead += c.Messages
		}
	}
	return usagef("migrate down would lose %s in schema %s: %s still to be delivered, %s dead; say --yes if you mean it",
		plural(all, "message"), config.Schema, grouped(waiting), grouped(dead))
}

func (p *program) migrateStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show the version of the tables",
		Long: `Shows the version of the tables, which programs work on them, and the version of this program with the oldest tables
that it works on. The exit status is 4 unless this program can work on them.`,
		Example: "  outbox-worker migrate status\n  outbox-worker migrate status --json",
		Args:    takes(0, 0, ""),
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.migrateStatus(cmd.Context(), asJSON) },
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (p *program) migrateStatus(ctx context.Context, asJSON bool) error {
	pool, schema, err := p.database(ctx)
	if err != nil {
		return err
	}
	config := migrations.Config{Schema: schema}
	versions, err := migrations.Status(ctx, pool, config)
	if err != nil {
		return err
	}
	if asJSON {
		err = p.printJSON(struct {
			Schema string `json:"schema"`
			migrations.Versions
		}{schema, versions})
	} else {
		river := "up to date"
		if versions.RiverPending {
			river = "missing or old"
		}
		p.table([]string{"SCHEMA", "VERSION", "WORKS WITH PROGRAMS FROM", "THIS PROGRAM", "WORKS ON TABLES FROM", "RIVER'S TABLES"},
			[][]string{{
				schema, fmt.Sprint(versions.Outbox), fmt.Sprint(versions.CompatibleFrom), fmt.Sprint(versions.OutboxLatest),
				fmt.Sprint(versions.OutboxNeeded), river,
			}})
	}
	if err != nil {
		return err
	}
	return migrations.Check(ctx, pool, config)
}
