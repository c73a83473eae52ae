package throwaway

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
)

// trail keeps what Start tried, so that an error without a server shows every reason at once.
type trail []string

func (t *trail) add(way string, err error) {
	*t = append(*t, fmt.Sprintf("%s: %v", way, err))
}

func (t trail) err() error {
	return errors.New("throwaway: no Postgres is available:\n  - " + strings.Join(t, "\n  - ") + "\n" +
		advice(runtime.GOOS, exec.LookPath))
}

// advice says how to get Postgres on this system.
func advice(goos string, lookPath func(string) (string, error)) string {
	get := "install PostgreSQL 14 or newer, or start Docker"
	switch goos {
	case "darwin":
		get = "install PostgreSQL 14 or newer (https://postgresapp.com or https://brew.sh), or start Docker"
	case "windows":
		get = "start Docker Desktop"
	}
	for _, m := range packageManagers() {
		if _, err := lookPath(m.command); err != nil {
			continue
		}
		line := m.command + " " + m.manual
		if m.asRoot {
			line = "sudo " + line
		}
		get = "install it with `" + line + "`, or start Docker"
		break
	}
	return "To get one: " + get + ", or name a server that may be used in " + URLVariable + "."
}
