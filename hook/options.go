package hook

import (
	"fmt"
	"maps"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// options returns how this run's message is delivered. What OptionsOf gets wrong, which may come from a stranger's header, is
// an error beside the hook's own options: the message is then dead, and says so.
func (h *WebhookTerminalHook) options(outcome outbox.RunOutcome) (outbox.Options, error) {
	own := h.config.options()
	if h.config.OptionsOf == nil {
		return own, nil
	}
	o := over(own, h.config.OptionsOf(outcome))
	if err := o.Validate(); err != nil {
		return own, fmt.Errorf("OptionsOf: %w", err)
	}
	return o, nil
}

// over returns the hook's options with those of one run, where they are not zero, in their place. Headers are set beside the
// hook's own.
func over(own, run outbox.Options) outbox.Options {
	own.Timeout = or(run.Timeout, own.Timeout)
	own.Method = or(run.Method, own.Method)
	if run.Format != "" && run.Format != own.Format {
		own.Format = run.Format
		if run.Format == outbox.FormatEnvelope { // whose type is always JSON
			own.ContentType = ""
		}
	}
	own.Source = or(run.Source, own.Source)
	own.ContentType = or(run.ContentType, own.ContentType)
	own.SigningKey = or(run.SigningKey, own.SigningKey)
	own.SecretHeaders = or(run.SecretHeaders, own.SecretHeaders)
	own.Delay = or(run.Delay, own.Delay)
	own.ExpireAfter = or(run.ExpireAfter, own.ExpireAfter)
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

func or[T comparable](run, own T) T {
	var zero T
	if run != zero {
		return run
	}
	return own
}
