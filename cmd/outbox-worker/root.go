package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const rootHelp = `outbox-worker delivers the outcomes of workflow runs as webhooks, and shows and changes messages.

It is configured by the environment: 'outbox-worker config' lists every variable. OUTBOX_DATABASE_URL is the one that
must be set.

` + exitHelp

// rootCommand builds the command tree.
func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "outbox-worker",
		Short: "deliver the outcomes of workflow runs as webhooks",
		Long:  rootHelp,
		Example: `  export OUTBOX_DATABASE_URL=postgres://app:PASSWORD@localhost:5432/app
  outbox-worker migrate up
  outbox-worker run`,
		Args:              knownCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors:     true, // report prints them
		SilenceUsage:      true,
		Version:           buildVersion().line(),
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}, // completionCommand replaces it
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp) // no argument is a file
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().StringVar(&p.schema, "schema", "", "schema of the outbox (default: OUTBOX_SCHEMA)")
	group := func(id, title string, commands ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	group("run", "Run:", p.runCommand(), p.migrateCommand(), p.healthcheckCommand(), p.configCommand())
	group("look", "Look:", p.statusCommand(), p.workersCommand(), p.checkCommand(), p.listCommand(), p.showCommand())
	group("act", "Act:", p.replayCommand(), p.cancelCommand(), p.pauseCommand(), p.resumeCommand(), p.limitCommand(), p.purgeCommand())
	group("tools", "Tools:", p.keysCommand(), p.receiveCommand(), p.versionCommand(), p.completionCommand())
	p.helpCommand(root)
	return root
}

// helpCommand gives cobra's own help an example and a group.
func (p *program) helpCommand(root *cobra.Command) {
	root.SetHelpCommandGroupID("tools")
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Short, c.Long = "help about any command", "Shows the help of a command, as its flag --help does."
			c.Example = "  outbox-worker help replay"
			c.Use = "help [COMMAND]"
		}
	}
}

// groupCommand is a command that only holds others.
func groupCommand(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.AddCommand(commands...)
	c.Args = knownCommand
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return usageError{cmd.Name() + ": name one of " + strings.Join(commandNames(cmd), ", "), cmd.CommandPath()}
	}
	return c
}

// knownCommand refuses an argument where a command is wanted.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("there is no command %q%s", args[0], didYouMean(args[0], commandNames(cmd)))
	return usageError{text, cmd.CommandPath()}
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// takes checks the number of arguments; its errors say what the arguments are.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageError{fmt.Sprintf("%s: name %s", cmd.Name(), what), cmd.CommandPath()}
		case len(args) > most && most == 0:
			return usageError{fmt.Sprintf("%s takes no argument, but there is %q", cmd.Name(), args[0]), cmd.CommandPath()}
		case len(args) > most:
			return usageError{fmt.Sprintf("%s: name %s; %q is one too many", cmd.Name(), what, args[most]), cmd.CommandPath()}
		}
		return nil
	}
}

// flagError rewrites the errors of pflag.
func flagError(cmd *cobra.Command, err error) error {
	text := err.Error()
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		text = "there is no flag " + dashed(unknown.GetSpecifiedName()) + didYouMean(dashed(unknown.GetSpecifiedName()), flagNames(cmd))
	case errors.As(err, &invalid):
		text = fmt.Sprintf("--%s is %.64q; want %s", invalid.GetFlag().Name, invalid.GetValue(), wantOf(invalid.GetFlag()))
	}
	return usageError{text, cmd.CommandPath()}
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func flagNames(cmd *cobra.Command) []string {
	names := []string{"--help"}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	return names
}

func wantOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int":
		return "a whole number"
	case "bool":
		return "true or false"
	case "duration", "age":
		return wantAge
	case "ages":
		return "WARNING,CRITICAL, a WARNING alone, or off; each a duration like 90s, 15m, 36h or 7d"
	case "counts":
		return "WARNING,CRITICAL, a WARNING alone, or off; each a whole number"
	case "percent":
		return wantPercent
	case "type":
		return wantKeyType
	case "tenant":
		return wantTenant
	}
	return "another value"
}
