package throwaway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// packageManager says how one system's package manager gets Postgres.
type packageManager struct {
	command string     // what to look for in PATH
	asRoot  bool       // it must run as root; otherwise it refuses to
	manual  string     // its arguments, for a person
	prepare [][]string // commands that may fail: the installation shows whether that matters
	install []string
	tidy    [][]string // commands that undo prepare; they are run in any case, and may fail
}

// packageManagers returns those that we know. The system's own come before Homebrew, which can be installed in addition.
func packageManagers() []packageManager {
	return []packageManager{
		aptGet(),
		{command: "dnf", asRoot: true, manual: "install postgresql-server",
			install: []string{"dnf", "install", "-y", "postgresql-server"}},
		{command: "apk", asRoot: true, manual: "add postgresql",
			install: []string{"apk", "add", "--no-cache", "postgresql"}},
		// Without -y, which would update the lists: Arch does not support one new package among old ones.
		{command: "pacman", asRoot: true, manual: "-S postgresql",
			install: []string{"pacman", "-S", "--noconfirm", "--needed", "postgresql"}},
		{command: "zypper", asRoot: true, manual: "install postgresql-server",
			install: []string{"zypper", "--non-interactive", "install", "postgresql-server"}},
		{command: "brew", manual: "install postgresql@17",
			install: []string{"brew", "install", "postgresql@17"}},
	}
}

// aptGet prevents Debian from creating and starting its own database cluster, as it does for a new Postgres. Debian reads this
// setting from a file, which exists during the installation only.
func aptGet() packageManager {
	const (
		dir  = "/etc/postgresql-common/createcluster.d"
		file = dir + "/epilogue-throwaway.conf"
		wish = "test -e " + file + " || { mkdir -p " + dir + " && echo 'create_main_cluster = false' >" + file + "; }"
		undo = "rm -f " + file + "; rmdir " + dir + " /etc/postgresql-common 2>/dev/null"
	)
	return packageManager{
		command: "apt-get",
		asRoot:  true,
		manual:  "install postgresql",
		prepare: [][]string{{"sh", "-c", wish}, {"apt-get", "update"}},
		install: []string{"env", "DEBIAN_FRONTEND=noninteractive",
			"apt-get", "install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", "postgresql"},
		tidy: [][]string{{"sh", "-c", undo}},
	}
}

// announcement is printed before anything is done. It says what is installed, why, and how to prevent it.
func (m packageManager) announcement() string {
	name := m.install[len(m.install)-1]
	return fmt.Sprintf("there is no Postgres on this machine, and a throwaway server needs its programs: installing the system package %s "+
		"with %s. The package stays when this ends. To have nothing installed, set %s=no (then Docker is tried), or name a server in %s",
		name, m.command, InstallVariable, URLVariable)
}

// installAllowed lets the environment overrule the option.
func installAllowed(option bool, variable string) (bool, error) {
	switch variable {
	case "":
		return option, nil
	case "yes":
		return true, nil
	case "no":
		return false, nil
	}
	return false, fmt.Errorf("throwaway: %s must be yes or no, not %q", InstallVariable, variable)
}

func install(ctx context.Context, say logf) error {
	manager, rights, err := choosePackageManager(exec.LookPath, os.Geteuid() == 0, func() error { return sudoWorks(ctx) })
	if err != nil {
		return err
	}
	say("%s", manager.announcement())
	for _, args := range manager.prepare {
		if err := runStep(ctx, rights, args, say); err != nil {
			say("that failed, going on: %v", err)
		}
	}
	err = runStep(ctx, rights, manager.install, say)
	for _, args := range manager.tidy {
		_ = runStep(context.WithoutCancel(ctx), rights, args, say) // there may be nothing to undo
	}
	return err
}

// choosePackageManager returns the first one that is installed and that we have the rights for, and the command that gives the
// rights.
func choosePackageManager(
	lookPath func(string) (string, error), weAreRoot bool, sudo func() error,
) (_ packageManager, rights []string, err error) {
	var reasons []error
	for _, m := range packageManagers() {
		if _, err := lookPath(m.command); err != nil {
			continue
		}
		switch {
		case m.asRoot == weAreRoot:
			return m, nil, nil
		case weAreRoot:
			reasons = append(reasons, fmt.Errorf("%s refuses to run as root", m.command))
			continue
		}
		if err := sudo(); err != nil {
			reasons = append(reasons, fmt.Errorf("%s needs root: %w", m.command, err))
			continue
		}
		return m, []string{"sudo", "-n"}, nil
	}
	if len(reasons) == 0 {
		return packageManager{}, nil, errors.New("no package manager that we know is here")
	}
	return packageManager{}, nil, errors.Join(reasons...)
}

func sudoWorks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	_, err := runToEnd(ctx, exec.CommandContext(ctx, "sudo", "-n", "true"))
	return err
}

// runStep prints a command of a package manager and runs it. When ctx ends, runStep asks the command to stop, and waits for it,
// because a package manager that is killed can leave the system half installed.
func runStep(ctx context.Context, rights, args []string, say logf) error {
	args = append(append([]string(nil), rights...), args...)
	say("running: %s", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	_, err := runToEnd(ctx, cmd)
	return err
}
