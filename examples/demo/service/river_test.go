package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
)

func (r *rig) riverEngine(t *testing.T, failing float64, wake func()) *riverEngine {
	t.Helper()
	e, err := newRiverEngine(r.store, options{
		outboxSchema: r.outbox, root: r.root, workers: 2, seed: 1, failing: failing,
	}, wake, slog.New(slog.DiscardHandler))
	must(t, err)
	return e
}

func (r *rig) submitToRiver(t *testing.T) int {
	t.Helper()
	paths, err := list(r.root, 0, 1)
	must(t, err)
	must(t, r.store.create(t.Context()))
	n, err := r.riverEngine(t, 0, nil).submit(t.Context(), paths, callback)
	must(t, err)
	return n
}

func TestOnRiverEachKindOfFileEndsItsRunAsItShould(t *testing.T) {
	t.Parallel()
	r := newRig(t, map[string]string{
		"src/good/good.go":  "package good\n",
		"src/bad/bad.go":    "package bad\n\nfunc {\n",
		"src/bad/quoted.go": "package bad\n\nvar x = 1 \"\xff\x00\"\n",
		"test/huge.go":      strings.Repeat("// a line of a comment\n", 20_000),
	})
	if first, second := r.submitToRiver(t), r.submitToRiver(t); first != 4 || second != 4 {
		t.Fatalf("submitted %d runs, then %d, want 4 both times", first, second)
	}
	must(t, r.riverEngine(t, 0, nil).run(t.Context()))
	for path, want := range map[string]string{
		"src/good/good.go": `succeeded 3`,
		"src/bad/bad.go":   "failed 1 src/bad/bad.go:3:6: expected 'IDENT', found '{'",
		"test/huge.go":     "cancelled 0 test/huge.go has 460000 bytes, the limit is 262144",
	} {
		got := r.one(t, `SELECT concat_ws(' ', m.status, m.final_step, m.error) FROM outbox.message m WHERE m.run_id = $1`, fileRunID(path))
		if got != want {
			t.Errorf("%s ended as\n%s\nwant\n%s", path, got, want)
		}
	}
	mustAgreeOnRiver(t, r, 4)
}

func TestOnRiverAServiceThatIsStoppedAndRolledBackEndsEachRunOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, manyFiles(40))
	r.submitToRiver(t)
	ctx, stop := context.WithCancel(t.Context())
	ends := make(chan struct{}, 40)
	go func() {
		defer stop()
		for range 10 {
			<-ends
		}
	}()
	if err := r.riverEngine(t, 0.2, func() { ends <- struct{}{} }).run(ctx); err == nil {
		t.Error("the service ended before it was stopped, so the test proves nothing")
	}
	must(t, r.riverEngine(t, 0.2, nil).run(t.Context()))
	mustAgreeOnRiver(t, r, 40)
	if got := r.one(t, `SELECT count(*)::text FROM demo.rolled_back`); got == "0" {
		t.Error("no end was rolled back, so the test proves nothing")
	}
}

func mustAgreeOnRiver(t *testing.T, r *rig, runs int) {
	t.Helper()
	mustAgreeOf(t, r, runs, `m.final_step >= 0`)
}
