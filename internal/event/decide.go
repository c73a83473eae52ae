package event

// Told is a row of event_told: when an event of an endpoint and a kind was last written, and what has happened since.
type Told struct {
	Endpoint string // "" for all endpoints beyond toldMost
	Kind     Kind
	Quiet    bool // the last one was written a short while ago: no other one is written yet
	Sum      Sum  // what has happened since
}

// toldMost bounds the endpoints with events of their own at one time. Submitters choose endpoints, so there can be any number;
// all further ones share one event of each kind.
const toldMost = 1000

type key struct {
	endpoint string
	kind     Kind
}

// Decide adds notes to the rows. It returns the rows whose event is written now, and those that wait with their new sums.
// It is pure. Each missing worker is reported once: all others notice it, and its name never comes back.
func Decide(notes []Note, rows []Told) (tell, wait []Told) {
	known, before, quiet := map[key]*Told{}, map[key]bool{}, 0
	var order []*Told
	for i := range rows {
		row := &rows[i]
		known[key{row.Endpoint, row.Kind}] = row
		before[key{row.Endpoint, row.Kind}] = true
		order = append(order, row)
		if row.Quiet {
			quiet++
		}
	}
	for _, n := range notes {
		k := key{n.Endpoint(), n.Kind}
		if known[k] == nil && quiet >= toldMost {
			k.endpoint = ""
		}
		row := known[k]
		if row == nil {
			row = &Told{Endpoint: k.endpoint, Kind: k.kind}
			known[k] = row
			order = append(order, row)
			quiet++
		}
		if n.Kind == WorkerMissing && k.endpoint != "" && (before[k] || row.Sum.N > 0) {
			continue
		}
		row.Sum.Add(n)
	}
	for _, row := range order {
		switch {
		case row.Sum.N == 0:
		case row.Quiet:
			wait = append(wait, *row)
		default:
			tell = append(tell, *row)
		}
	}
	return tell, wait
}
