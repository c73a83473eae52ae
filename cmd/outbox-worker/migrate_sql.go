package main

import (
	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/migrations"
)

func (p *program) migrateSQLCommand() *cobra.Command {
	var plan migrations.Plan
	cmd := &cobra.Command{
		Use:   "sql",
		Short: "print the migrations as plain SQL",
		Long: `Prints the migrations as plain SQL, for golang-migrate, Atlas or a person with psql. It needs no database. Each
migration is a transaction of its own.

There are two lines of migrations, which count their own versions: outbox, and river for River's tables beside it.
Without a range both are printed completely. --from is the present version of a line, --to the wanted one: the
migrations after the first, up to the second, are printed. With --down, which removes them, the order is from the
higher to the lower version.

With --bare, BEGIN and COMMIT are left out, for a tool that begins a transaction around each file itself. River's
versions up to 4 and those after it must then be two files.

The programs do not depend on the tool: they read the version from the schema, and the printed SQL includes River's
record of its versions. 'migrate up' and 'migrate down' refuse tables that were made in this way.`,
		Example: `  outbox-worker migrate sql | psql --set ON_ERROR_STOP=1 "$OUTBOX_DATABASE_URL"
  outbox-worker migrate sql --line outbox --from 2 > 0042_outbox.up.sql   # from version 2 to the newest
  outbox-worker migrate sql --line outbox --down --to 2 > 0042_outbox.down.sql
  outbox-worker migrate sql --line river --to 4 --bare > 20260102_river.sql`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.load(envPrefix + "SCHEMA")
			if err != nil {
				return err
			}
			plan.Schema = c.settings.inForce().Schema
			if plan.Line == "" && (plan.From != 0 || plan.To != 0) {
				return usagef("--from and --to are versions of one line; add --line outbox or --line river")
			}
			text, err := plan.SQL()
			if err != nil {
				return usagef("%v", err)
			}
			p.printf("%s", text)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&plan.Line, "line", "", "only these migrations: outbox or river")
	flags.IntVar(&plan.From, "from", 0, "the version that the line is at (default: none of it; with --down the newest)")
	flags.IntVar(&plan.To, "to", 0, "the version to bring it to (default: the newest; with --down none of it)")
	flags.BoolVar(&plan.Down, "down", false, "print the SQL that removes the migrations again, with everything in the tables")
	flags.BoolVar(&plan.Bare, "bare", false, "without BEGIN and COMMIT")
	return cmd
}
