package hook

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// URLPolicy says what a worker would refuse; package urlpolicy makes one.
type URLPolicy interface {
	CheckURL(url string) error
}

// destinations returns the URLs of a run, each once, with the dedupe key as it is written; none when the run names no URL.
func (h *WebhookTerminalHook) destinations(outcome outbox.RunOutcome) []outbox.Destination {
	key := ""
	if h.config.DedupeKey != nil {
		key = h.config.DedupeKey(outcome)
	}
	var to []outbox.Destination
	for _, url := range h.urls(outcome) {
		to = append(to, outbox.Destination{URL: url, DedupeKey: h.config.scoped(key, url)})
	}
	if len(to) == 0 && h.config.RequireURL {
		to = append(to, outbox.Destination{DedupeKey: h.config.scoped(key, ""), Fault: h.noDestination(outcome.Headers)})
	}
	return to
}

// urls returns the URLs of the run, without empty ones and repetitions.
func (h *WebhookTerminalHook) urls(outcome outbox.RunOutcome) []string {
	var urls []string
	if h.config.URLs != nil {
		for _, url := range h.config.URLs(outcome) {
			if url != "" && !slices.Contains(urls, url) {
				urls = append(urls, url)
			}
		}
	}
	if url := h.url(outcome.Headers); len(urls) == 0 && url != "" {
		urls = []string{url}
	}
	return urls
}

// noDestination says why a run has no destination, and which header may have been meant.
func (h *WebhookTerminalHook) noDestination(headers map[string]string) string {
	name := h.config.URLHeader
	for _, key := range slices.Sorted(maps.Keys(headers)) {
		if key != name && alike(key, name) {
			return fmt.Sprintf("the run names no URL: it has no header %q, but one that is called %.64q; keys are compared exactly", name, key)
		}
	}
	if _, there := headers[name]; there {
		return fmt.Sprintf("the run names no URL: its header %q is empty", name)
	}
	return fmt.Sprintf("the run names no URL: it has no header %q", name)
}

// alike compares names as people mistype them.
func alike(a, b string) bool {
	fold := strings.NewReplacer("-", "", "_", "", " ", "")
	return strings.EqualFold(fold.Replace(a), fold.Replace(b))
}

// checkURL reports, at submit time, a URL that can never be delivered to. It knows only what the URL itself says.
func (h *WebhookTerminalHook) checkURL(url string) error {
	if _, err := outbox.CheckURL(url); err != nil {
		return err
	}
	if h.config.Policy != nil {
		return h.config.Policy.CheckURL(url)
	}
	return nil
}

// CheckOutcome is [WebhookTerminalHook.CheckHeaders] for a hook whose URLs, options or tenant depend on more than the headers.
// The outcome is one that the run may have; its status does not matter.
func (h *WebhookTerminalHook) CheckOutcome(outcome outbox.RunOutcome) error {
	if err := h.made(); err != nil {
		return err
	}
	urls := h.urls(outcome)
	if len(urls) == 0 {
		if h.config.RequireURL {
			return errors.New(h.noDestination(outcome.Headers))
		}
		return nil
	}
	var faults []error
	for _, url := range urls {
		if err := h.checkURL(url); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", h.origin(url, outcome), err))
		}
	}
	if len(urls) > outbox.DestinationsMax {
		faults = append(faults, fmt.Errorf("URLs: %d of them; the limit is %d", len(urls), outbox.DestinationsMax))
	}
	if err := h.ofRun(h.options(outcome).Validate()); err != nil {
		faults = append(faults, err)
	}
	if n := header.Size(header.Clean(outcome.Headers)); n > outbox.HeadersBytesMax {
		faults = append(faults, fmt.Errorf("headers: %d bytes as JSON, the limit is %d", n, outbox.HeadersBytesMax))
	}
	for _, key := range h.forwarded(outcome.Headers) {
		if err := header.Check(key, outcome.Headers[key]); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// origin says where a URL comes from; the URL itself may hold a secret.
func (h *WebhookTerminalHook) origin(url string, outcome outbox.RunOutcome) string {
	switch url {
	case outcome.Headers[h.config.URLHeader]:
		return fmt.Sprintf("header %q", h.config.URLHeader)
	case h.config.DefaultURL:
		return "DefaultURL"
	}
	return "URLs"
}
