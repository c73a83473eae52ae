// Package chance decides what goes wrong on purpose: the same for the same seed, however the processes are scheduled.
package chance

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Hits reports whether the event that parts name happens, as it does for the given share of all events (0 to 1).
func Hits(seed uint64, share float64, parts ...any) bool {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d%q", seed, parts))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11)/(1<<53) < share
}
