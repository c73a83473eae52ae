package testdb

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// Child is a program that the test binary can run as, in a process that a test can kill.
type Child struct {
	Name string
	Run  func() int // returns the exit status
}

// Environment variables that give a child its name and its schema.
const (
	childVariable  = "EPILOGUE_TEST_CHILD"
	schemaVariable = "EPILOGUE_TEST_SCHEMA"
)

const startMax = 2 * time.Minute

// Main is all that TestMain of a package needs: it finds a server, runs the tests, and checks for leaked goroutines. It does
// not return. Without a database the run fails: skipped tests must not look like passed ones.
func Main(m *testing.M, children ...Child) {
	if name := os.Getenv(childVariable); name != "" {
		os.Exit(runChild(name, children))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), startMax)
	defer cancel()
	server, err := throwaway.Start(ctx, throwaway.Options{Log: say, Memory: true})
	if err != nil {
		say("%v", err)
		return 1
	}
	// Through the environment, so that children and fuzz workers find the server too, without a global of ours.
	if err := os.Setenv(throwaway.URLVariable, server.URL()); err != nil {
		say("%v", err)
		return 1
	}
	runMoreAtOnce()
	code := m.Run()
	if err := dropTemplate(server.URL()); err != nil {
		say("%v", err)
		code = 1
	}
	if err := server.Stop(); err != nil {
		say("%v", err)
		code = 1
	}
	if code == 0 {
		if err := leakcheck.Find(); err != nil {
			say("goroutines outlive the tests: %v", err)
			code = 1
		}
	}
	return code
}

// runMoreAtOnce lets more tests run at once than there are processors, because they often wait: for the database, for a lease, for
// a process. The package's own choice or the flag -parallel overrides this.
func runMoreAtOnce() {
	const atOnce = 4
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue && runtime.GOMAXPROCS(0) < atOnce {
		_ = f.Value.Set(strconv.Itoa(atOnce))
	}
}

func runChild(name string, children []Child) int {
	for _, c := range children {
		if c.Name == name {
			return c.Run()
		}
	}
	say("no child is called %q; TestMain must give it to testdb.Main", name)
	return 2
}

// Command prepares the named child to run on this database, which [ChildDatabase] returns there. Further settings are
// NAME=VALUE. The child's stderr is ours.
func (db *DB) Command(name string, settings ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+name, schemaVariable+"="+db.Schema, throwaway.URLVariable+"="+db.URL)
	cmd.Env = append(cmd.Env, settings...)
	cmd.Stderr = os.Stderr
	return cmd
}

// ChildDatabase returns, in a child, the database it was started for.
func ChildDatabase() (url, schema string) {
	return os.Getenv(throwaway.URLVariable), os.Getenv(schemaVariable)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "testdb: "+format+"\n", args...) }
