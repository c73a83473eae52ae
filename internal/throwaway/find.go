package throwaway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// installation is a Postgres that is installed on this machine.
type installation struct {
	dir     string   // where initdb and postgres are
	version string   // like "15.18"
	runAs   *account // the user it must run as; nil: ourselves
}

// account is a user of this machine other than ourselves: Postgres refuses to run as root.
type account struct {
	name     string
	uid, gid uint32
}

// findInstallation returns the first usable installation in the order of candidateDirs.
func findInstallation(ctx context.Context) (installation, error) {
	runAs, err := serverAccount()
	if err != nil {
		return installation{}, err
	}
	var rejected []string
	for _, dir := range candidateDirs(ctx) {
		found := installation{dir: dir, runAs: runAs}
		if found.version, err = found.askVersion(ctx); err == nil {
			return found, nil
		}
		rejected = append(rejected, fmt.Sprintf("%s: %v", dir, err))
	}
	if len(rejected) == 0 {
		return installation{}, errors.New("initdb and postgres are not in PATH, in `pg_config --bindir`, " +
			"or where distributions put them (like /usr/lib/postgresql/*/bin)")
	}
	return installation{}, errors.New("found, but not usable: " + strings.Join(rejected, "; "))
}

// candidateDirs returns the directories that have both initdb and postgres, the most likely one first. Distributions keep the
// programs of the server outside of PATH, each at its own path, so that several versions can be installed.
func candidateDirs(ctx context.Context) []string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range distributionPatterns() {
		matches, _ := filepath.Glob(pattern) // its only error is a malformed pattern
		dirs = append(dirs, highestFirst(matches)...)
	}
	dirs = append(dirs, pgConfigDir(ctx))

	var candidates []string
	for _, dir := range dirs {
		if filepath.IsAbs(dir) && !slices.Contains(candidates, dir) && hasServer(dir) {
			candidates = append(candidates, dir)
		}
	}
	return candidates
}

func distributionPatterns() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                   // the PostgreSQL project's RPMs
		"/usr/lib/postgresql*/bin",           // SUSE
		"/usr/libexec/postgresql*",           // Alpine
		"/usr/lib64/postgresql-*/bin",        // Gentoo
		"/usr/local/pgsql/bin",               // built from source
		"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on Apple silicon
		"/opt/homebrew/bin",
		"/usr/local/opt/postgresql@*/bin",                 // Homebrew on Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin", // Homebrew on Linux
		"/Applications/Postgres.app/Contents/Versions/*/bin",
		filepath.Join(os.Getenv("HOME"), ".nix-profile", "bin"), // Nix, to the end
		filepath.Join("/etc/profiles/per-user", os.Getenv("USER"), "bin"),
		"/nix/var/nix/profiles/default/bin",
		"/run/current-system/sw/bin",
	}
}

// highestFirst orders paths by the last number in them, which is the version where there is one. "latest" as in
// Postgres.app comes last; it's a link to one of the others.
func highestFirst(paths []string) []string {
	number := regexp.MustCompile(`\d+(\.\d+)?`)
	version := func(path string) float64 {
		all := number.FindAllString(path, -1)
		if len(all) == 0 {
			return 0
		}
		v, _ := strconv.ParseFloat(all[len(all)-1], 64)
		return v
	}
	slices.SortStableFunc(paths, func(a, b string) int {
		switch va, vb := version(a), version(b); {
		case va > vb:
			return -1
		case va < vb:
			return 1
		}
		return 0
	})
	return paths
}

func pgConfigDir(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	output, err := runToEnd(ctx, exec.CommandContext(ctx, "pg_config", "--bindir"))
	if err != nil {
		return "" // it's one hint of several, and often not there
	}
	return strings.TrimSpace(output)
}

func hasServer(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

const (
	askMax    = 10 * time.Second // for a program that only has to say something about itself
	cancelMax = 15 * time.Second // for a program that was asked to end
)

// askVersion runs the server program as it will be run later, so it also finds out whether that user can run it.
func (f installation) askVersion(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	cmd := f.command(ctx, "postgres", "--version")
	cmd.Dir = "/"
	output, err := runToEnd(ctx, cmd)
	if err != nil {
		return "", fmt.Errorf("running it%s: %w", f.asWhom(), err)
	}
	return parseVersion(output)
}

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", also "17beta1" and "18devel".
func parseVersion(line string) (string, error) {
	m := regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`).FindStringSubmatch(line)
	if m == nil {
		return "", fmt.Errorf("it says %q in place of a version", strings.TrimSpace(line))
	}
	if major, err := strconv.Atoi(m[2]); err != nil || major < versionMin {
		return "", fmt.Errorf("version %s is older than %d", m[1], versionMin)
	}
	return m[1], nil
}

// command prepares a program of the installation to run as the required user, in a process group of its own (we handle an
// interrupt from the terminal) and ending with us. From our environment it gets only what is needed to find libraries: our PG
// variables would change what it does, and a process of another user should not get the others. LC_ALL keeps messages in one
// language, and macOS needs it set.
func (f installation) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(f.dir, program), args...)
	cmd.SysProcAttr = processAttributes(f.runAs)
	// initdb ends on this signal when its server has finished its current work, within a second or so. If either were killed,
	// its shared memory would be left behind.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = cancelMax
	cmd.Env = []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, set := os.LookupEnv(name); set {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

func (f installation) asWhom() string {
	if f.runAs == nil {
		return ""
	}
	return " as user " + f.runAs.name
}
