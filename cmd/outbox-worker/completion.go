package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func (p *program) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion " + strings.Join(shells, "|"),
		Short: "print the completion script of a shell",
		Long: `Prints a script that completes commands, flags and states in your shell. Bash needs the package bash-completion; zsh
needs "autoload -U compinit; compinit" before it.`,
		Example: `  source <(outbox-worker completion bash)                                        # bash, this session
  outbox-worker completion bash > /etc/bash_completion.d/outbox-worker           # bash, from now on
  outbox-worker completion zsh > "${fpath[1]}/_outbox-worker"                    # zsh
  outbox-worker completion fish > ~/.config/fish/completions/outbox-worker.fish  # fish`,
		Args:      takes(1, 1, "one shell: "+strings.Join(shells, ", ")),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.stdout, true)
			case "zsh":
				return root.GenZshCompletion(p.stdout)
			case "fish":
				return root.GenFishCompletion(p.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(p.stdout)
			}
			return usageError{"completion: there is no shell " + args[0] + didYouMean(args[0], shells), cmd.CommandPath()}
		},
	}
}

type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

func completeFlag(cmd *cobra.Command, flag string, f completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag is defined above
	}
}

// completeStates completes the last of several states separated by commas, with the states not named before.
func completeStates(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	before := ""
	if i := strings.LastIndexByte(typed, ','); i >= 0 {
		before = typed[:i+1]
	}
	var words []string
	for _, state := range stateNames() {
		if !strings.Contains(","+before, ","+state+",") && strings.HasPrefix(before+state, typed) {
			words = append(words, before+state)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
