package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// runCommand runs the command to its end, passing signals on, and returns the exit status for it.
func runCommand(args []string, url string, signals <-chan os.Signal, say func(string, ...any)) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), throwaway.URLVariable+"="+url)
	if err := cmd.Start(); err != nil {
		say("%v", err)
		return exitNotStarted
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if !hasItAlready(s) {
				_ = cmd.Process.Signal(s) // it may just have ended
			}
		case err := <-ended:
			return exitStatus(err, say)
		}
	}
}

// hasItAlready reports whether the command got the signal, too: an interrupt typed at the terminal goes to every process in the
// foreground. A second one would make many programs stop without cleaning up.
func hasItAlready(s os.Signal) bool {
	return s == os.Interrupt && inForeground()
}

func exitStatus(err error, say func(string, ...any)) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		say("%v", err)
		return exitNotStarted
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignalBase + int(status.Signal())
	}
	return exit.ExitCode()
}
