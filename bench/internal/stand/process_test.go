package stand

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestTheLogOfAWorkerShowsWhenItIsReady(t *testing.T) {
	t.Parallel()
	l := newWorkerLog()
	write := func(text string) {
		if n, err := l.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("Write returns %d, %v; want %d", n, err, len(text))
		}
	}
	write("time=1 level=INFO msg=\"outbox-worker runs\" schema=s\ntime=2 level=INFO msg=wor")
	select {
	case <-l.ready:
		t.Fatal("ready is closed before the log has the line that says so")
	default:
	}
	write("king worker=host/1 schema=s\n")
	<-l.ready
	write("time=3 level=INFO msg=working again\n") // a second such line changes nothing
}

func TestTheEnvironmentOfAWorkerHasNoSettingsOfTheUser(t *testing.T) {
	t.Parallel()
	got := workerEnvironment([]string{"PATH=/bin", "OUTBOX_LEASE=1h", "HOME=/"}, []string{"SCHEMA=s"})
	if want := []string{"PATH=/bin", "HOME=/", "OUTBOX_SCHEMA=s"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKilobytesOfTheKernelAreRead(t *testing.T) {
	t.Parallel()
	if got, ok := kibibytes("2048 kB"); got != 2 || !ok {
		t.Errorf("2048 kB: got %v MiB, %v; want 2", got, ok)
	}
	for _, text := range []string{"", "2048", "x kB"} {
		if _, ok := kibibytes(text); ok {
			t.Errorf("%q is accepted, want not", text)
		}
	}
}

func TestWithoutTheGoCommandNoWorkerIsBuilt(t *testing.T) { // not parallel: it changes the environment
	t.Setenv("PATH", "")
	b := builder{say: t.Logf}
	_, err := b.build(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the go command is needed") {
		t.Errorf("got the error %v, want that the go command is needed", err)
	}
	if err := b.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(b.directory); !os.IsNotExist(err) {
		t.Errorf("the directory of the build is still there: %v", err)
	}
}
