package postgres

import "context"

// Telling is how much the statements report about what they change (package event). At Quiet, the statements contain nothing
// about events.
type Telling int

const (
	Quiet  Telling = iota // report nothing
	Answer                // return which messages died, and which circuit breakers had been open
	Write                 // also write events into outbox.event
)

var tellings = []Telling{Quiet, Answer, Write}

// Events is where a Recorder or a Claimer reports events. Its zero value reports none.
type Events struct {
	Telling func() Telling // how much to report now
	Died    func(Result)   // a message that is dead now, and recorded; a Claimer returns its dead messages instead
	Untold  func(error)    // something happened without an event, because the database refuses the event
}

// tell runs a statement that reports as much as Telling says now.
//
// An event never prevents a result from being recorded. So where the database refuses a statement that writes events, or the table
// of events is locked as a whole, the statement is made again without them.
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

// whatDied marks a message among the changes of a record: its id stands in the endpoint's place.
const whatDied = "died"

// tellDeaths takes the deaths out of the changes, and reports them.
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

// toldText is a statement in two forms: without events, and with events.
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
