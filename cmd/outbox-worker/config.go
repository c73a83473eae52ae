package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func (p *program) configCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "every variable: its meaning, default and value in force",
		Long: `Lists every variable of the environment with its meaning, its default and the value in force, in the form of an env
file: unset variables stand behind a #. Passwords are not shown. All faults are printed on stderr, and the exit status
is then 2: use it as a check before a start.`,
		Example: `  outbox-worker config
  outbox-worker config --json | jq -r '.[] | select(.set) | "\(.name)=\(.value)"'`,
		Args: takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			c, err := p.load()
			var faults faultsError
			if err != nil && !errors.As(err, &faults) {
				return err
			}
			if asJSON {
				if printErr := p.printJSON(c.variables()); printErr != nil {
					return printErr
				}
				return err
			}
			p.printVariables(c.variables())
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (p *program) printVariables(list []variable) {
	for i, v := range list {
		if i > 0 {
			p.printf("\n")
		}
		for _, line := range wrapped(v.Meaning, 100) {
			p.printf("# %s\n", line)
		}
		p.printf("# default: %s\n", v.Default)
		switch {
		case v.Fault != "" && v.Set:
			p.printf("#%s=   (faulty)\n", v.Name)
		case v.Set:
			p.printf("%s=%s\n", v.Name, v.Value)
		default:
			p.printf("#%s=%s\n", v.Name, v.Value)
		}
	}
}
