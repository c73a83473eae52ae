package hook

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// DedupeScope is the set of messages among which a dedupe key is unique.
type DedupeScope string

// The scopes. A key of one scope never meets a key of another one.
const (
	// DedupeKeys is the zero value: all messages of the outbox, whatever their hook and URL.
	DedupeKeys DedupeScope = ""
	// DedupeHook is the messages of all hooks with the same [WebhookConfig.Name]. With it, two hooks of a [Multi] can use the
	// same keys.
	DedupeHook DedupeScope = "hook"
	// DedupeURL is the messages to the same URL: each URL of a run gets one message. [WebhookConfig.URLs] needs it.
	DedupeURL DedupeScope = "url"
)

// ErrDedupeCollision is the error of a [Multi] whose hooks would write one run under the same dedupe key to different URLs.
// Only the first message would be written, and the second would be lost without an error. It is a programming error, found
// before anything is written.
var ErrDedupeCollision = errors.New("two hooks have the same dedupe key for different URLs, so that only the first would get a message; set DedupeScope, or give them keys of their own")

func (c WebhookConfig) checkScope() error {
	switch c.DedupeScope {
	case DedupeKeys, DedupeURL:
	case DedupeHook:
		if c.Name == "" {
			return fmt.Errorf("DedupeScope is %q, and Name is empty; name the hook", c.DedupeScope)
		}
	default:
		return fmt.Errorf("DedupeScope is %q; want %q or %q, or nothing", c.DedupeScope, DedupeHook, DedupeURL)
	}
	if c.URLs != nil && c.DedupeKey != nil && c.DedupeScope != DedupeURL {
		return fmt.Errorf("URLs and DedupeKey are set; then DedupeScope must be %q: with one key only the first URL would get a message", DedupeURL)
	}
	return nil
}

// scoped returns the key as it is written.
func (c WebhookConfig) scoped(key, url string) string {
	switch {
	case key == "":
		return ""
	case c.DedupeScope == DedupeHook:
		return fmt.Sprintf("[hook %s] %s", c.Name, key)
	case c.DedupeScope == DedupeURL:
		if normal, _, err := callback.Normalize(url); err == nil {
			url = normal // one URL in two spellings is one
		}
		sum := sha256.Sum256([]byte(url))
		return fmt.Sprintf("[url %s] %s", hex.EncodeToString(sum[:16]), key)
	}
	return key
}

// collision reports two hooks if one of them would write nothing for this outcome, without an error.
func (m multi) collision(outcome outbox.RunOutcome) error {
	var keyed []*WebhookTerminalHook
	for _, h := range m {
		if webhook, ok := h.(*WebhookTerminalHook); ok && webhook != nil && webhook.config.DedupeKey != nil {
			keyed = append(keyed, webhook)
		}
	}
	if len(keyed) < 2 {
		return nil
	}
	type place struct{ schema, key string }
	urls := map[place]string{}
	for _, webhook := range keyed {
		for _, to := range webhook.destinations(outcome) {
			at := place{webhook.config.Schema, to.DedupeKey}
			if at.key == "" {
				continue
			}
			if url, taken := urls[at]; taken && url != to.URL {
				return fmt.Errorf("%w: %.200q", ErrDedupeCollision, at.key)
			}
			urls[at] = to.URL
		}
	}
	return nil
}
