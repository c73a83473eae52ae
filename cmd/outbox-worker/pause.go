package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// endpointPaused is the JSON that pause and resume print.
type endpointPaused struct {
	Endpoint string `json:"endpoint"`
	Paused   bool   `json:"paused"`
}

func (p *program) pauseCommand() *cobra.Command {
	var reason string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pause ENDPOINT",
		Short: "send nothing to an endpoint until it is resumed",
		Long: `Sends nothing to an endpoint until it is resumed; requests already under way go on. Its messages wait, and no attempt
of theirs is used up. An endpoint is the origin of a URL: scheme, host and port.`,
		Example: `  outbox-worker pause https://hooks.example.com --reason "maintenance until nine"`,
		Args:    takes(1, 1, "one endpoint, as https://HOST[:PORT]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkEndpoint(args[0]); err != nil {
				return err
			}
			store, err := p.store(cmd.Context())
			if err != nil {
				return err
			}
			if err := store.Pause(cmd.Context(), args[0], reason); err != nil {
				return err
			}
			if asJSON {
				return p.printJSON(endpointPaused{args[0], true})
			}
			p.printf("%s is paused\n", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever looks later")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (p *program) resumeCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "resume ENDPOINT",
		Short: "send to an endpoint again, at once",
		Long: `Sends to an endpoint again at once, whether it was paused or had asked to be left alone for a while. The exit status is
3 when neither was so: look for a slip in its name.`,
		Example: "  outbox-worker resume https://hooks.example.com",
		Args:    takes(1, 1, "one endpoint, as https://HOST[:PORT]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkEndpoint(args[0]); err != nil {
				return err
			}
			store, err := p.store(cmd.Context())
			if err != nil {
				return err
			}
			resumed, err := store.Resume(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case !resumed:
				return fmt.Errorf("%w: %s is neither paused nor left alone", errNothing, args[0])
			case asJSON:
				return p.printJSON(endpointPaused{args[0], false})
			}
			p.printf("%s is resumed\n", args[0])
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
