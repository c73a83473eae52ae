// Package uuid7 has rules for ids, which are UUIDs of version 7 (RFC 9562): their bounds in time, and their form in SQL.
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

// Texts are ids in a form that every mode of Postgres' protocol can write, as an array that SQL casts to uuid[]. It is never nil,
// which would be NULL.
func Texts[ID interface {
	~[16]byte
	String() string
}](ids []ID) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return texts
}
