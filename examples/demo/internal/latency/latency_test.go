package latency

import (
	"strings"
	"testing"
	"time"
)

func TestQuantilesAreTakenFromTheDurations(t *testing.T) {
	t.Parallel()
	var list []time.Duration
	for i := 100; i >= 1; i-- {
		list = append(list, time.Duration(i)*time.Millisecond)
	}
	for share, want := range map[float64]time.Duration{0: 1, 0.01: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := Quantile(list, share); got != want*time.Millisecond {
			t.Errorf("quantile %v is %v, want %v", share, got, want*time.Millisecond)
		}
	}
	if got := Quantile(nil, 0.5); got != 0 {
		t.Errorf("the quantile of an empty list is %v, want 0", got)
	}
}

func TestTheHistogramCountsEveryDurationOnce(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := Write(&out, []time.Duration{2 * time.Millisecond, 2*time.Millisecond + 1, 4 * time.Millisecond, 6 * time.Second, time.Minute}, "")
	want := `to 2 ms          1  ####################
to 5 ms          2  ########################################
to 10 ms         0  
to 20 ms         0  
to 50 ms         0  
to 100 ms        0  
to 200 ms        0  
to 500 ms        0  
to 1 s           0  
to 2 s           0  
to 5 s           0  
to 10 s          1  ####################
to 20 s          0  
over 20 s        1  ####################
`
	if err != nil || out.String() != want {
		t.Errorf("got (%v)\n%s\nwant\n%s", err, out.String(), want)
	}
}

func TestDurationsAreShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		740 * time.Microsecond: "740 µs", 4100 * time.Microsecond: "4.1 ms", 31_400 * time.Microsecond: "31 ms",
		2 * time.Second: "2 s", 6_340 * time.Millisecond: "6.3 s",
	} {
		if got := Short(d); got != want {
			t.Errorf("Short(%v) is %q, want %q", d, got, want)
		}
	}
}
