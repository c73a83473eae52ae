package outbox

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// ID is a message's id and its webhook-id: a UUID of version 7 (RFC 9562), ordered by the time its writer made it.
type ID [16]byte

// NewID makes an id from the writer's clock, to a quarter of a microsecond (RFC 9562, section 6.2, method 3), and 62
// random bits.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[8:]) // never fails: crypto/rand ends the program instead
	now := time.Now()
	ms := now.UnixMilli()
	fraction := (now.UnixNano() - ms*int64(time.Millisecond)) << 12 / int64(time.Millisecond)
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16|0x7000|uint64(fraction))
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ErrInvalidID is in every error of [ParseID].
var ErrInvalidID = errors.New("not a message id")

// ParseID reads the form that [ID.String] writes.
func ParseID(s string) (ID, error) {
	var id ID
	digits := make([]byte, 0, 32)
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; !dash {
			digits = append(digits, s[i])
		} else if s[i] != '-' {
			return id, fmt.Errorf("%w: %.64q", ErrInvalidID, s)
		}
	}
	if n, err := hex.Decode(id[:], digits[:min(len(digits), 32)]); err != nil || n != 16 || len(s) != 36 {
		return ID{}, fmt.Errorf("%w: %.64q; want a UUID like 0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10", ErrInvalidID, s)
	}
	return id, nil
}

// String returns the id in the usual form of UUIDs, in lower case.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// Time returns the time the writer's clock showed when it made the id.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16))
}

// MarshalText writes the id as [ID.String] does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is [ParseID].
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// UUIDValue lets pgx write the id in binary.
func (id ID) UUIDValue() (pgtype.UUID, error) { return pgtype.UUID{Bytes: id, Valid: true}, nil }

// ScanUUID lets pgx read the id from binary.
func (id *ID) ScanUUID(v pgtype.UUID) error {
	if !v.Valid {
		return fmt.Errorf("%w: NULL", ErrInvalidID)
	}
	*id = v.Bytes
	return nil
}
