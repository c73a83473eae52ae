package webhook_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

func newMemory(t *testing.T, c webhook.MemoryConfig) *webhook.MemoryStore {
	t.Helper()
	s, err := webhook.NewMemoryStore(c)
	must(t, err)
	return s
}

func process(t *testing.T, s webhook.Store, id string) {
	t.Helper()
	must(t, s.Finish(t.Context(), claim(t, s, id, webhook.First), true))
}

func TestAFullMemoryForgetsTheOldestProcessedMessage(t *testing.T) {
	t.Parallel()
	s := newMemory(t, webhook.MemoryConfig{Max: 3})
	claim(t, s, "held", webhook.First)
	for i := range 1000 {
		process(t, s, fmt.Sprint(i))
		if n := s.Len(); n > 3 {
			t.Fatalf("%d messages are remembered, want 3 at most", n)
		}
	}
	claim(t, s, "held", webhook.InProgress)
	claim(t, s, "999", webhook.Duplicate)
	claim(t, s, "998", webhook.Duplicate)
	claim(t, s, "997", webhook.First)
}

func TestAMemoryFullOfClaimsRefusesMore(t *testing.T) {
	t.Parallel()
	s := newMemory(t, webhook.MemoryConfig{Max: 2, Lease: time.Hour})
	a := claim(t, s, "a", webhook.First)
	claim(t, s, "b", webhook.First)
	if c, err := s.Claim(t.Context(), "c"); err == nil || c.State != 0 {
		t.Errorf("Claim returns %+v, %v; want an error", c, err)
	}
	must(t, s.Finish(t.Context(), a, false))
	claim(t, s, "c", webhook.First)
}

func TestAMemoryForgetsAfterItsTTLAndClaimsEndAfterTheirLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newMemory(t, webhook.MemoryConfig{TTL: time.Hour, Lease: time.Minute})
		process(t, s, "a")
		claim(t, s, "b", webhook.First)
		time.Sleep(time.Minute - 1)
		claim(t, s, "b", webhook.InProgress)
		time.Sleep(time.Nanosecond)
		claim(t, s, "b", webhook.First)
		time.Sleep(59*time.Minute - 1)
		claim(t, s, "a", webhook.Duplicate)
		time.Sleep(time.Nanosecond)
		claim(t, s, "a", webhook.First)
		if n := s.Len(); n != 1 {
			t.Errorf("%d messages are remembered, want 1", n)
		}
	})
}

func TestAMemoryFullOfClaimsDropsALateRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newMemory(t, webhook.MemoryConfig{Max: 1, Lease: time.Minute})
		late := claim(t, s, "late", webhook.First)
		time.Sleep(time.Minute)
		claim(t, s, "other", webhook.First)
		must(t, s.Finish(t.Context(), late, true))
		claim(t, s, "other", webhook.InProgress)
		if n := s.Len(); n != 1 {
			t.Errorf("%d messages are remembered, want 1 at most", n)
		}
	})
}

func TestEveryFaultOfAMemorysConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	_, err := webhook.NewMemoryStore(webhook.MemoryConfig{Max: -1, TTL: -1, Lease: 1})
	for _, want := range []string{"Max is -1", "TTL is -1ns", "Lease is 1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
}
