package uuid7_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestTheFloorOfATimeIsBelowAllLaterIDs(t *testing.T) {
	t.Parallel()
	now := time.Now()
	id := outbox.NewID()
	if floor := uuid7.Floor(now); bytes.Compare(floor[:], id[:]) > 0 {
		t.Errorf("the floor %x is above the id %s, want it below", floor, id)
	}
	if floor := uuid7.Floor(now.Add(time.Second)); bytes.Compare(floor[:], id[:]) <= 0 {
		t.Errorf("the floor of a second later, %x, is not above the id %s, want it above", floor, id)
	}
	if floor := uuid7.Floor(time.Unix(-5, 0)); floor != [16]byte{} {
		t.Errorf("the floor of a time before 1970 is %x, want zero", floor)
	}
}

func TestTheTextsOfNoIDsAreAnEmptySlice(t *testing.T) {
	t.Parallel()
	if texts := uuid7.Texts[outbox.ID](nil); texts == nil || len(texts) != 0 {
		t.Errorf("the texts of no ids are %#v, want an empty slice: nil would become NULL", texts)
	}
	if id := outbox.NewID(); uuid7.Texts([]outbox.ID{id})[0] != id.String() {
		t.Errorf("the texts of %s are %v, want its text", id, uuid7.Texts([]outbox.ID{id}))
	}
}
