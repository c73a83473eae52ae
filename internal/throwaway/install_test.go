//go:build unix

package throwaway

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// pathWith returns a function like exec.LookPath, for a machine that has these programs.
func pathWith(programs ...string) func(string) (string, error) {
	return func(name string) (string, error) {
		for _, program := range programs {
			if program == name {
				return "/usr/bin/" + name, nil
			}
		}
		return "", exec.ErrNotFound
	}
}

func TestThePackageManagerIsOneThatIsInstalledAndAllowed(t *testing.T) {
	sudoWorks := func() error { return nil }
	sudoFails := func() error { return errors.New("a password is required") }
	for name, c := range map[string]struct {
		here []string
		root bool
		sudo func() error
		want string // the command line, or the error
	}{
		"Debian as root":  {[]string{"apt-get"}, true, nil, "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 postgresql"},
		"Debian as user":  {[]string{"apt-get"}, false, sudoWorks, "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 postgresql"},
		"without sudo":    {[]string{"apt-get"}, false, sudoFails, "apt-get needs root: a password is required"},
		"Fedora":          {[]string{"dnf"}, true, nil, "dnf install -y postgresql-server"},
		"Alpine":          {[]string{"apk"}, true, nil, "apk add --no-cache postgresql"},
		"Arch":            {[]string{"pacman"}, false, sudoWorks, "sudo -n pacman -S --noconfirm --needed postgresql"},
		"SUSE":            {[]string{"zypper"}, true, nil, "zypper --non-interactive install postgresql-server"},
		"macOS":           {[]string{"brew"}, false, sudoFails, "brew install postgresql@17"},
		"brew as root":    {[]string{"brew"}, true, nil, "brew refuses to run as root"},
		"brew on Debian":  {[]string{"apt-get", "brew"}, false, sudoFails, "brew install postgresql@17"},
		"an unknown land": {nil, true, nil, "no package manager that we know is here"},
	} {
		t.Run(name, func(t *testing.T) {
			m, rights, err := choosePackageManager(pathWith(c.here...), c.root, c.sudo)
			got := strings.Join(append(rights, m.install...), " ")
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAPackageIsAnnouncedBeforeItIsInstalled(t *testing.T) {
	for _, m := range packageManagers() {
		got := m.announcement()
		for _, want := range []string{"the system package postgresql", "with " + m.command, "The package stays", InstallVariable + "=no", URLVariable} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is missing in: %s", want, got)
			}
		}
	}
}

func TestTheEnvironmentOverrulesTheOptionToInstall(t *testing.T) {
	for _, c := range []struct {
		option   bool
		variable string
		want     bool
	}{
		{false, "", false}, {true, "", true}, {true, "no", false}, {false, "yes", true},
	} {
		if got, err := installAllowed(c.option, c.variable); got != c.want || err != nil {
			t.Errorf("option %v, variable %q: got %v, %v, want %v", c.option, c.variable, got, err, c.want)
		}
	}
	if _, err := installAllowed(true, "maybe"); err == nil {
		t.Error("the variable \"maybe\" returns no error, want one")
	}
}

func TestTheAdviceFitsTheSystem(t *testing.T) {
	for _, c := range []struct {
		goos string
		here []string
		want string
	}{
		{"linux", []string{"apt-get"}, "`sudo apt-get install postgresql`"},
		{"darwin", []string{"brew"}, "`brew install postgresql@17`"},
		{"darwin", nil, "https://postgresapp.com"},
		{"windows", nil, "Docker Desktop"},
	} {
		got := advice(c.goos, pathWith(c.here...))
		if !strings.Contains(got, c.want) || !strings.Contains(got, URLVariable) {
			t.Errorf("on %s with the programs %v the advice is %q, want %q and %s in it", c.goos, c.here, got, c.want, URLVariable)
		}
	}
}
