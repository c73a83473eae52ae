package recording

import (
	"sync/atomic"
	"time"
)

// oldest is when the oldest of several things came.
type oldest struct{ at atomic.Int64 } // nanoseconds since 1970; 0: there is none

func (o *oldest) set(t time.Time) {
	if t.IsZero() {
		o.at.Store(0)
	} else {
		o.at.Store(t.UnixNano())
	}
}

func (o *oldest) since() time.Time {
	if at := o.at.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}
