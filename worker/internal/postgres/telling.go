package postgres

import "context"

// Telling is how much the statements that change something tell of it (package event). A worker that tells nothing runs the
// statements without a word about events in them.
type Telling int

const (
	Quiet  Telling = iota // tell nothing
	Answer                // say which messages died, and which circuit breakers had been open
	Write                 // besides, write what happened into outbox.event
)

var tellings = []Telling{Quiet, Answer, Write}

// Events is whom a Recorder or a Claimer tells. Its zero value is nobody.
type Events struct {
	Telling func() Telling // now
	Died    func(Result)   // a message that is dead now, and on record; a Claimer returns what it buried
	Untold  func(error)    // something happened and is not in outbox.event, for the database refuses that
}

// tell runs a statement at the telling of now.
//
// An event never keeps a result from its record. So where the database refuses a statement that writes events, or the table
// of events is locked as a whole, the statement is made once more without them.
func (e Events) tell(run func(Telling) error) error {
	t := Quiet
	if e.Telling != nil {
		t = e.Telling()
	}
	err := run(t)
	if t != Write || err == nil || !IsRefusal(err) && (!IsLocked(err) || IsRowLocked(err)) {
		return err
	}
	again := run(Answer)
	if again == nil && e.Untold != nil {
		e.Untold(err)
	}
	return again
}

func (r *Recorder) tellingArgs(t Telling, args []any) []any {
	if t == Quiet {
		return args
	}
	return append(args, r.config.OpenAfter)
}

// whatDied is among the changes of a record: of a message, whose id stands where the endpoint does.
const whatDied = "died"

// tellDeaths takes the deaths out of the changes, and tells of them.
func (r *Recorder) tellDeaths(changes []EndpointChange, batch []Result) []EndpointChange {
	kept := changes[:0]
	var died map[string]bool
	for _, c := range changes {
		if c.What != whatDied {
			kept = append(kept, c)
			continue
		}
		if died == nil {
			died = map[string]bool{}
		}
		died[c.Endpoint] = true
	}
	if len(died) == 0 || r.config.Events.Died == nil {
		return kept
	}
	for i := range batch {
		if batch[i].Action == ActionDead && died[batch[i].ID.String()] {
			r.config.Events.Died(batch[i])
		}
	}
	return kept
}

// toldText is a statement as it is and as it writes events.
type toldText struct{ quiet, told string }

func (x toldText) at(t Telling) string {
	if t == Write {
		return x.told
	}
	return x.quiet
}

// changeTelling is change with a statement that may write events.
func (c *Claimer) changeTelling(ctx context.Context, sql toldText, args ...any) (n int, err error) {
	err = c.config.Events.tell(func(t Telling) (err error) {
		n, err = c.change(ctx, sql.at(t), args...)
		return err
	})
	return n, err
}
