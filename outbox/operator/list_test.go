package operator_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestListFilters(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	ids := oneOfEach(t, db)
	elsewhere := fixture.Message("elsewhere")
	elsewhere.URL = "http://other.example:8080/x"
	old := fixture.Write(t, db, elsewhere)
	fixture.Execute(t, db, "UPDATE %s.message SET created_at = now() - interval '2 hours' WHERE id = '%s'", db.Schema, old)

	all := append(sorted(ids), "elsewhere")
	due := []string{"elsewhere", "delivering", "pending", "retrying"}
	for name, c := range map[string]struct {
		filter operator.Filter
		want   []string
	}{
		"nothing":              {operator.Filter{}, all},
		"dead":                 {operator.Filter{States: []outbox.State{outbox.StateDead}}, []string{"dead"}},
		"cancelled":            {operator.Filter{States: []outbox.State{outbox.StateCancelled}}, []string{"cancelled"}},
		"pending":              {operator.Filter{States: []outbox.State{outbox.StatePending}}, []string{"elsewhere", "pending"}},
		"delivering":           {operator.Filter{States: []outbox.State{outbox.StateDelivering}}, []string{"delivering"}},
		"retrying":             {operator.Filter{States: []outbox.State{outbox.StateRetrying}}, []string{"retrying"}},
		"delivered":            {operator.Filter{States: []outbox.State{outbox.StateDelivered}}, []string{"delivered"}},
		"due":                  {operator.Filter{States: []outbox.State{outbox.StatePending, outbox.StateDelivering, outbox.StateRetrying}}, due},
		"dead and pending":     {operator.Filter{States: []outbox.State{outbox.StateDead, outbox.StatePending}}, []string{"dead", "elsewhere", "pending"}},
		"every state":          {operator.Filter{States: outbox.States}, all},
		"an endpoint":          {operator.Filter{Endpoint: "http://other.example:8080"}, []string{"elsewhere"}},
		"an endpoint's URL":    {operator.Filter{Endpoint: "http://other.example:8080/x"}, nil},
		"a run":                {operator.Filter{RunID: "dead"}, []string{"dead"}},
		"a run, and its state": {operator.Filter{RunID: "dead", States: []outbox.State{outbox.StateDelivered}}, nil},
		"old":                  {operator.Filter{OlderThan: time.Hour}, []string{"elsewhere"}},
		"new":                  {operator.Filter{NewerThan: time.Hour}, sorted(ids)},
		"neither":              {operator.Filter{OlderThan: time.Hour, NewerThan: 90 * time.Minute}, nil},
		"injection":            {operator.Filter{RunID: "' OR true --"}, nil},
	} {
		list, err := s.List(t.Context(), c.filter)
		must(t, err)
		var got []string
		for _, m := range list {
			got = append(got, m.RunID)
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func sorted(ids map[outbox.State]outbox.ID) (names []string) {
	for state := range ids {
		names = append(names, string(state))
	}
	slices.Sort(names)
	return names
}

func TestListShowsTheNewestFirstAndNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	s := fixture.Store(t, db)
	w := fixture.Writer(t, db)
	tx := fixture.Begin(t, db.Pool)
	for range operator.ListLimit + 5 {
		_, err := w.Insert(t.Context(), tx, fixture.Message("run"))
		must(t, err)
	}
	must(t, tx.Commit(t.Context()))
	for limit, want := range map[int]int{0: operator.ListLimit, 3: 3, 1000: operator.ListLimit + 5} {
		list, err := s.List(t.Context(), operator.Filter{Limit: limit})
		must(t, err)
		if len(list) != want || !slices.IsSortedFunc(list, func(a, b operator.MessageStatus) int {
			return strings.Compare(b.ID.String(), a.ID.String())
		}) {
			t.Errorf("a limit of %d gives %d, want %d, the newest first", limit, len(list), want)
		}
	}
}

func TestAFilterThatMeansNothingIsRefused(t *testing.T) {
	t.Parallel()
	s := fixture.Store(t, testdb.New(t))
	for name, f := range map[string]operator.Filter{
		"limit": {Limit: -1}, "older": {OlderThan: -1}, "newer": {NewerThan: -1}, "state": {States: []outbox.State{"lost"}},
	} {
		if _, err := s.List(t.Context(), f); err == nil {
			t.Errorf("%s: it is accepted", name)
		}
	}
}
