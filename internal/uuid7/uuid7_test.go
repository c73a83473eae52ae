package uuid7_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestTheFloorOfATimeIsBelowWhatIsMadeLater(t *testing.T) {
	t.Parallel()
	now := time.Now()
	id := outbox.NewID()
	if floor := uuid7.Floor(now); bytes.Compare(floor[:], id[:]) > 0 {
		t.Errorf("%x is above %s", floor, id)
	}
	if floor := uuid7.Floor(now.Add(time.Second)); bytes.Compare(floor[:], id[:]) <= 0 {
		t.Errorf("the floor of a second later, %x, is not above %s", floor, id)
	}
	if floor := uuid7.Floor(time.Unix(-5, 0)); floor != [16]byte{} {
		t.Errorf("before 1970 it is %x", floor)
	}
}

func TestTheTextsOfNoIDsAreNoNULL(t *testing.T) {
	t.Parallel()
	if texts := uuid7.Texts[outbox.ID](nil); texts == nil || len(texts) != 0 {
		t.Errorf("they are %#v", texts)
	}
	if id := outbox.NewID(); uuid7.Texts([]outbox.ID{id})[0] != id.String() {
		t.Errorf("%s becomes %v", id, uuid7.Texts([]outbox.ID{id}))
	}
}
