// Package uuid7 bounds ids by the time of their making: those of messages are UUIDs of version 7 (RFC 9562).
package uuid7

import (
	"encoding/binary"
	"time"
)

// Floor returns the least id that a writer whose clock is right can make at t or later.
func Floor(t time.Time) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], uint64(max(t.UnixMilli(), 0))<<16)
	return id
}
