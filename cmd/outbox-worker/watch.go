package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// The interval of --watch without a value, and the shortest one.
const (
	watchEvery = "2s"
	watchLeast = 100 * time.Millisecond
)

func watchFlag(cmd *cobra.Command, every *age) {
	cmd.Flags().Var(every, "watch", "repeat until interrupted, every "+watchEvery+" or as often as this says, like --watch=10s")
	cmd.Flags().Lookup("watch").NoOptDefVal = watchEvery
}

// watch shows something once if every is 0, and otherwise repeatedly until ctx ends. A terminal is cleared each time.
func (p *program) watch(ctx context.Context, every age, show func() error) error {
	if every == 0 {
		return show()
	}
	if time.Duration(every) < watchLeast {
		return usagef("--watch is %v; want %v or more", time.Duration(every), watchLeast)
	}
	file, ok := p.stdout.w.(*os.File)
	clears := ok && term.IsTerminal(int(file.Fd()))
	ticker := time.NewTicker(time.Duration(every))
	defer ticker.Stop()
	for {
		if clears {
			p.printf("\x1b[H\x1b[2J")
		}
		err := show()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !clears {
			p.printf("\n")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
