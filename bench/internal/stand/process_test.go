package stand

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestAWorkersLogTellsWhenItWorks(t *testing.T) {
	t.Parallel()
	l := newWorkerLog()
	write := func(text string) {
		if n, err := l.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	write("time=1 level=INFO msg=\"outbox-worker runs\" schema=s\ntime=2 level=INFO msg=wor")
	select {
	case <-l.ready:
		t.Fatal("ready before it said so")
	default:
	}
	write("king worker=host/1 schema=s\n")
	<-l.ready
	write("time=3 level=INFO msg=working again\n") // a second one is no news
}

func TestAWorkersEnvironmentHoldsNothingOfItsUsersOwn(t *testing.T) {
	t.Parallel()
	got := workerEnvironment([]string{"PATH=/bin", "OUTBOX_LEASE=1h", "HOME=/"}, []string{"SCHEMA=s"})
	if want := []string{"PATH=/bin", "HOME=/", "OUTBOX_SCHEMA=s"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKernelsKilobytesAreRead(t *testing.T) {
	t.Parallel()
	if got, ok := kibibytes("2048 kB"); got != 2 || !ok {
		t.Errorf("2048 kB: got %v MiB, %v", got, ok)
	}
	for _, text := range []string{"", "2048", "x kB"} {
		if _, ok := kibibytes(text); ok {
			t.Errorf("%q was read", text)
		}
	}
}

func TestWithoutTheGoCommandNoWorkerIsBuilt(t *testing.T) { // not parallel: it changes the environment
	t.Setenv("PATH", "")
	b := builder{say: t.Logf}
	_, err := b.build(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the go command is needed") {
		t.Errorf("got %v", err)
	}
	if err := b.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(b.directory); !os.IsNotExist(err) {
		t.Errorf("its directory is still there: %v", err)
	}
}
