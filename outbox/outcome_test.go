package outbox_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestOutcomesThatContradictThemselvesAreRefused(t *testing.T) {
	t.Parallel()
	const good = ""
	for name, c := range map[string]struct {
		outcome outbox.RunOutcome
		field   string
	}{
		"succeeded":                 {outbox.RunOutcome{RunID: "r", Status: outbox.Succeeded, Result: []byte("x")}, good},
		"succeeded without result":  {outbox.RunOutcome{RunID: "r", Status: outbox.Succeeded}, good},
		"failed":                    {outbox.RunOutcome{RunID: "r", Status: outbox.Failed, Error: "e"}, good},
		"failed without a reason":   {outbox.RunOutcome{RunID: "r", Status: outbox.Failed}, good},
		"cancelled":                 {outbox.RunOutcome{RunID: "r", Status: outbox.Cancelled, Error: "e"}, good},
		"cancelled from outside":    {outbox.RunOutcome{RunID: "r", Status: outbox.Cancelled}, good},
		"an empty result":           {outbox.RunOutcome{RunID: "r", Status: outbox.Failed, Result: []byte{}}, good},
		"the last step there is":    {outbox.RunOutcome{RunID: "r", Status: outbox.Failed, FinalStep: 1<<32 - 1}, good},
		"the longest run id":        {outbox.RunOutcome{RunID: strings.Repeat("r", outbox.RunIDBytesMax), Status: outbox.Failed}, good},
		"no run id":                 {outbox.RunOutcome{Status: outbox.Succeeded}, "RunID is empty"},
		"a long run id":             {outbox.RunOutcome{RunID: strings.Repeat("r", outbox.RunIDBytesMax+1), Status: outbox.Failed}, "RunID has 1025 bytes, the limit is 1024"},
		"no status":                 {outbox.RunOutcome{RunID: "r"}, `status ""`},
		"an unknown status":         {outbox.RunOutcome{RunID: "r", Status: "running"}, `status "running"`},
		"a status in capitals":      {outbox.RunOutcome{RunID: "r", Status: "Failed"}, `status "Failed"`},
		"a result on a failed one":  {outbox.RunOutcome{RunID: "r", Status: outbox.Failed, Result: []byte("x")}, "Result is set on a failed run"},
		"a result on a cancelled":   {outbox.RunOutcome{RunID: "r", Status: outbox.Cancelled, Result: []byte("x")}, "Result is set on a cancelled run"},
		"an error on one succeeded": {outbox.RunOutcome{RunID: "r", Status: outbox.Succeeded, Error: "e"}, "Error is set on a succeeded run"},
	} {
		err := c.outcome.Validate()
		switch {
		case c.field == good && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.field != good && (!errors.Is(err, outbox.ErrInvalidOutcome) || !strings.Contains(err.Error(), c.field)):
			t.Errorf("%s: %v; want %q", name, err, c.field)
		}
	}
}
