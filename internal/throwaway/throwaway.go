// Package throwaway gives demos, tests and benchmarks a real Postgres server, and removes all of it afterwards.
//
// Start looks for a server in this order and says in its log which one it took:
//
//   - the server named in EPILOGUE_DATABASE_URL: it is used as it is, and never stopped;
//   - Postgres 14 or newer installed on this machine: a fresh data directory is made and a server of our own started;
//   - the system's package manager, if installing is allowed (Options.Install): then as above;
//   - Docker: a container of our own.
//
// A server of our own trusts everybody who can connect to it, as superuser and without a password. It listens on the
// loopback interface only, but every user of this machine can reach that, and a Postgres superuser can run programs
// as the user that the server runs as. Don't start one on a machine whose other users you don't trust, and put nothing
// into it that is worth keeping.
//
// The caller must call Stop. If it can't, because it was killed with SIGKILL, the server ends at once by itself on Linux, and
// the next Start after that removes its files. On other systems the next Start removes the files, and the server, which checks
// for its own pid file once a minute, then ends by itself. A container of a killed parent is
// removed by the next Start, too.
package throwaway

import (
	"context"
	"fmt"
	"os"
)

const (
	// URLVariable names the environment variable with the server to use in place of one of our own: a postgres:// URL
	// or key=value settings. Its role must be allowed to create schemas in its database.
	URLVariable = "EPILOGUE_DATABASE_URL"

	// InstallVariable names the environment variable that overrules Options.Install: "yes" or "no".
	InstallVariable = "EPILOGUE_INSTALL_POSTGRES"
)

// Options say how to find and run the server. The zero value is a good choice: the server named in the environment, or
// a fast one of our own that isn't durable beyond its own crashes.
type Options struct {
	// Log is called with a line, without a newline, for each thing that Start does that takes time or changes the machine.
	// Default: nil, which is silent.
	Log func(format string, args ...any)

	// Own asks for a server of our own even if one is named in the environment. A test that crashes its server needs this.
	// Default: false, the server named in the environment comes first.
	Own bool

	// Settings are Postgres settings, like "fsync": "on", for a server of our own; they have no effect on a server
	// named in the environment. They are given on the server's command line, so ALTER SYSTEM doesn't override them.
	// Default: nil, which leaves these: fsync off, full_page_writes off while fsync is off, synchronous_commit on,
	// max_connections 200, shared_buffers 128MB. port, listen_addresses and unix_socket_directories can't be given:
	// URL says where the server listens.
	Settings map[string]string

	// Env are environment variables, NAME=VALUE, for the server process of our own; they have no effect on a server
	// named in the environment. LD_PRELOAD=libfaketime with FAKETIME=+10 gives it another clock, for example.
	// Default: nil, which leaves what the server needs to find its libraries.
	Env []string

	// Install allows installing Postgres with the system's package manager when none is found. The package stays
	// installed. The environment overrules it: EPILOGUE_INSTALL_POSTGRES=no forbids it, =yes allows it.
	// Default: false, nothing is installed.
	Install bool

	// Memory keeps the files of a server of our own in memory if the machine has room for that (Linux's /dev/shm, and
	// 4 GiB free) and TMPDIR is not set: for tests, which make and remove thousands of files. Such a server outlives its own
	// crash, but not the machine's. Default: false, the files are in TMPDIR or /tmp.
	Memory bool
}

// logf is Options.Log, never nil.
type logf func(format string, args ...any)

// Start returns a server that accepts connections. The context bounds the start only: the server lives until Stop, or
// until this process ends. When Start fails it has stopped and removed whatever it had started.
func Start(ctx context.Context, o Options) (*Server, error) {
	say := logf(o.Log)
	if say == nil {
		say = func(string, ...any) {}
	}
	settings, err := settingArgs(o.Settings)
	if err != nil {
		return nil, err
	}
	mayInstall, err := installAllowed(o.Install, os.Getenv(InstallVariable))
	if err != nil {
		return nil, err
	}
	if named := os.Getenv(URLVariable); named != "" && !o.Own {
		return useNamed(ctx, named, say)
	}
	sweep(ctx, say)
	return startOwn(ctx, launchOptions{settings: settings, env: o.Env, memory: o.Memory}, mayInstall, say)
}

// launchOptions are the options with which a server of our own runs.
type launchOptions struct {
	settings []string // its arguments
	env      []string // NAME=VALUE
	memory   bool     // Options.Memory
}

// startOwn tries one way to get a Postgres after the other. A way that exists but fails ends the search: a container in place
// of a broken installation would only hide the fault.
func startOwn(ctx context.Context, o launchOptions, mayInstall bool, say logf) (*Server, error) {
	var tried trail
	found, err := findInstallation(ctx)
	if err != nil && ctx.Err() == nil {
		tried.add("Postgres on this machine", err)
		found, err = installAndFind(ctx, mayInstall, &tried, say)
	}
	if err == nil {
		return startLocal(ctx, found, o, say)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("throwaway: looking for Postgres: %w", context.Cause(ctx))
	}
	if err := dockerAnswers(ctx); err != nil {
		tried.add("Docker", err)
		return nil, tried.err()
	}
	return startContainer(ctx, o, say)
}

func installAndFind(ctx context.Context, allowed bool, tried *trail, say logf) (installation, error) {
	const way = "installing Postgres"
	if !allowed {
		err := fmt.Errorf("not allowed here (%s=yes would allow it)", InstallVariable)
		tried.add(way, err)
		return installation{}, err
	}
	if err := install(ctx, say); err != nil {
		tried.add(way, err)
		return installation{}, err
	}
	found, err := findInstallation(ctx)
	if err != nil {
		tried.add("Postgres on this machine, after installing it", err)
	}
	return found, err
}
