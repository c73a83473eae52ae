package outbox

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

// Message is one outcome to be delivered to one URL.
type Message struct {
	ID      ID         // the webhook-id; made by the writer when zero
	Outcome RunOutcome // what to deliver; see [RunOutcome.Validate]
	URL     string     // where to; one that [CheckURL] refuses makes a dead message
	Options Options    // how to deliver it

	// Tenant, when not empty, says whose message it is; see [CheckTenant]. At each endpoint, each tenant has its own share of
	// the requests, health, pauses and limits, so that one never delays another. Messages without a tenant belong to a tenant
	// of their own. The service must set it, never the submitter: a submitter who chooses the tenant can take the shares of
	// many. It needs tables of version 6.
	Tenant string

	// Fault, when not empty, makes a dead message with this reason: for a caller that finds a fault that the writer cannot
	// find.
	Fault string

	// DedupeKey, when not empty, is a key under which only one message is written; a second one is not. The second writer waits
	// until the transaction of the first one ends.
	DedupeKey string
}

// row is a message in the form of the tables, and its fault when it can never be delivered.
type row struct {
	args   []any // $1 to $11 of the insert
	faults []string
	key    any // the dedupe key as the row holds it, or nil
}

// check reports a message that contradicts itself.
func (m Message) check() error {
	if err := m.Outcome.Validate(); err != nil {
		return err
	}
	if err := m.Options.Validate(); err != nil {
		return fmt.Errorf("%w: Options: %w", ErrInvalidOutcome, err)
	}
	if m.Tenant != "" {
		if err := CheckTenant(m.Tenant); err != nil {
			return fmt.Errorf("%w: Tenant: %w", ErrInvalidOutcome, err)
		}
	}
	return nil
}

// newRow turns a checked message into a row. What a submitter got wrong becomes a fault, and the row holds as much of it as the
// tables can.
func newRow(m Message, resultBytesMax int) row {
	var r row
	if m.Fault != "" {
		r.faults = append(r.faults, cutText(cleantext.Of(m.Fault), ErrorBytesMax))
	}
	target, endpoint, err := callback.Normalize(m.URL)
	if err != nil {
		target = cleantext.Cut(cleantext.Of(m.URL), URLBytesMax)
		r.faults = append(r.faults, err.Error())
	}
	result, fault := resultArg(m.Outcome, resultBytesMax)
	if fault != "" {
		r.faults = append(r.faults, fault)
	}
	headers, fault := keepHeaders(m.Outcome.Headers)
	if fault != "" {
		r.faults = append(r.faults, fault)
	}
	r.key = dedupeKeyArg(m.DedupeKey)
	r.args = []any{
		m.ID.String(), cleantext.Cut(cleantext.Of(m.Outcome.RunID), RunIDBytesMax), string(m.Outcome.Status), result, errorArg(m.Outcome),
		asciiJSON(mustJSON(headers)), int64(m.Outcome.FinalStep), target, endpoint,
		optionsArg(m.Options, headers), r.key,
	}
	return r
}

func (r row) dead() bool     { return len(r.faults) > 0 }
func (r row) reason() string { return strings.Join(r.faults, "; ") }

func resultArg(o RunOutcome, bytesMax int) (arg any, fault string) {
	if o.Status != Succeeded {
		return nil, ""
	}
	if n := len(o.Result); n > ResultBytesKept {
		return nil, fmt.Sprintf("result: %d bytes, the limit is %d; not kept, for it is over %d", n, bytesMax, ResultBytesKept)
	} else if n > bytesMax {
		fault = fmt.Sprintf("result: %d bytes, the limit is %d", n, bytesMax)
	}
	if o.Result == nil {
		return []byte{}, fault
	}
	return o.Result, fault
}

func errorArg(o RunOutcome) any {
	if o.Status == Succeeded {
		return nil
	}
	return cutText(cleantext.Of(o.Error), ErrorBytesMax)
}

// optionsArg names the forwarded headers as the row holds them: cleaned, and only those that were kept.
func optionsArg(o Options, headers map[string]string) any {
	var kept []string
	for _, key := range o.Forward {
		key = cleantext.Of(key)
		if _, ok := headers[key]; ok {
			kept = append(kept, key)
		}
	}
	slices.Sort(kept)
	o.Forward = slices.Compact(kept) // two keys may have become one by cleaning
	return o.arg()
}

// dedupeKeyArg replaces a key that the column cannot hold by its hash. Cutting or cleaning could make two keys equal, and a
// message would be lost.
func dedupeKeyArg(key string) any {
	switch {
	case key == "":
		return nil
	case len(key) > DedupeKeyBytesMax || cleantext.Of(key) != key:
		sum := sha256.Sum256([]byte(key))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	return key
}
