package hook

import (
	"cmp"
	"errors"
	"fmt"
	"maps"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// options returns how this run's message is delivered, not yet validated: that is the writer's part.
func (h *WebhookTerminalHook) options(outcome outbox.RunOutcome) outbox.Options {
	if h.config.OptionsOf == nil {
		return h.config.Options
	}
	return over(h.config.Options, h.config.OptionsOf(outcome))
}

// ofRun returns what OptionsOf got wrong, or nil when err is about something else. It may come from the header of a submitter.
func (h *WebhookTerminalHook) ofRun(err error) error {
	var faults outbox.FieldFaults
	if h.config.OptionsOf == nil || !errors.As(err, &faults) {
		return nil
	}
	return fmt.Errorf("OptionsOf: %w", faults)
}

// over returns the options of the hook, in which the non-zero fields of one run replace the hook's. The headers of the run are added to
// those of the hook.
func over(own, run outbox.Options) outbox.Options {
	own.Timeout = cmp.Or(run.Timeout, own.Timeout)
	own.Method = cmp.Or(run.Method, own.Method)
	if run.Format != "" && run.Format != own.Format {
		own.Format = run.Format
		if run.Format == outbox.FormatEnvelope { // whose type is always JSON
			own.ContentType = ""
		}
	}
	own.Source = cmp.Or(run.Source, own.Source)
	own.ContentType = cmp.Or(run.ContentType, own.ContentType)
	own.SigningKey = cmp.Or(run.SigningKey, own.SigningKey)
	own.SecretHeaders = cmp.Or(run.SecretHeaders, own.SecretHeaders)
	own.Delay = cmp.Or(run.Delay, own.Delay)
	own.ExpireAfter = cmp.Or(run.ExpireAfter, own.ExpireAfter)
	if len(run.Headers) > 0 {
		headers := maps.Clone(own.Headers)
		if headers == nil {
			headers = map[string]string{}
		}
		maps.Copy(headers, run.Headers)
		own.Headers = headers
	}
	return own
}
