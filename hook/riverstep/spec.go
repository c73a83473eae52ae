package riverstep

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// RunSpec asks for a run.
type RunSpec struct {
	ID       string            // 1 to 128 of A–Z a–z 0–9 _ -; made when empty
	Input    []byte            // payload of the first step
	Headers  map[string]string // the submitter's metadata; no key begins with HeaderPrefix
	Priority int               // River's, of every step (but see Config.BegunFirst): 1 (the highest) to 4; River's default when 0
	Attempts int               // of each step; Config.Attempts when 0
	RunAt    time.Time         // not before, by the database's clock; at once when zero or past
}

// HeaderPrefix begins the header keys that are this package's own.
const HeaderPrefix = "workflow."

// InstanceHeader is added to the headers of each outcome: the run's instance, as in Step.Instance.
const InstanceHeader = HeaderPrefix + "instance"

// DedupeKey is a hook.WebhookConfig.DedupeKey: one message per run instance, enforced by a unique index.
func DedupeKey(o outbox.RunOutcome) string {
	if o.Headers[InstanceHeader] == "" {
		return ""
	}
	return "riverstep/" + o.Headers[InstanceHeader]
}

var runID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// normal fills in what was left out, and reports every fault at once, wrapped with [ErrInvalid].
func (c Config) normal(spec RunSpec) (RunSpec, error) {
	if spec.ID == "" {
		spec.ID = outbox.NewID().String()
	}
	if spec.Attempts == 0 {
		spec.Attempts = c.Attempts
	}
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(runID.MatchString(spec.ID), "ID is %.140q; want 1 to 128 of A-Z, a-z, 0-9, _ and -", spec.ID)
	check(len(spec.Input) <= c.InputBytesMax, "Input has %d bytes, the limit is %d", len(spec.Input), c.InputBytesMax)
	check(spec.Priority >= 0 && spec.Priority <= 4, "Priority is %d; want 1 to 4, or 0 for River's default", spec.Priority)
	check(spec.Attempts >= 1 && spec.Attempts <= AttemptsMax, "Attempts is %d; want 1 to %d, or 0 for %d",
		spec.Attempts, AttemptsMax, c.Attempts)
	faults = append(faults, c.checkHeaders(spec.Headers))
	if err := errors.Join(faults...); err != nil {
		return spec, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return spec, nil
}

func (c Config) checkHeaders(headers map[string]string) error {
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(headers)) {
		switch {
		case strings.HasPrefix(strings.ToLower(key), HeaderPrefix):
			faults = append(faults, fmt.Errorf("header %q: keys beginning with %q are reserved", key, HeaderPrefix))
		case !isText(key) || !isText(headers[key]):
			faults = append(faults, fmt.Errorf("header %q: holds a NUL byte or invalid UTF-8", key))
		}
	}
	// These are the headers of the outcome, so they have the limit of its message.
	text, err := json.Marshal(withInstance(headers, outbox.NewID()))
	if err == nil && len(text) > c.HeadersBytesMax {
		err = fmt.Errorf("headers: %d bytes as JSON, %q included; the limit is %d", len(text), InstanceHeader, c.HeadersBytesMax)
	}
	return errors.Join(append(faults, err, c.CheckHeaders(headers))...)
}

func withInstance(headers map[string]string, instance outbox.ID) map[string]string {
	all := maps.Clone(headers)
	if all == nil {
		all = map[string]string{}
	}
	all[InstanceHeader] = instance.String()
	return all
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }
