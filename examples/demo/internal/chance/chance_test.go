package chance

import "testing"

func TestTheShareIsKeptAndTheSeedDecides(t *testing.T) {
	t.Parallel()
	const events, share = 20_000, 0.03
	hits, same := 0, 0
	for event := range events {
		first := Hits(1, share, "run", event)
		if first {
			hits++
		}
		if first != Hits(1, share, "run", event) {
			t.Fatalf("event %d: the second decision differs from the first", event)
		}
		if first && Hits(2, share, "run", event) {
			same++
		}
	}
	if hits < events*share*8/10 || hits > events*share*12/10 {
		t.Errorf("%d of %d events happened, want about %v of them", hits, events, share)
	}
	if same > hits/4 {
		t.Errorf("another seed chose %d of the same %d events, want a quarter of them at most", same, hits)
	}
}

func TestNothingHappensAtShareZeroAndEverythingAtShareOne(t *testing.T) {
	t.Parallel()
	for event := range 1000 {
		if Hits(7, 0, event) || !Hits(7, 1, event) {
			t.Fatalf("event %d: want never at share 0, always at share 1", event)
		}
	}
}
