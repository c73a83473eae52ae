package webhook

import (
	"errors"
	"net/http"
)

// sentinels with their statuses, in the order in which they are looked for.
var statuses = [...]struct {
	err    error
	status int
}{
	{ErrMissingHeader, http.StatusBadRequest},
	{ErrInvalidHeader, http.StatusBadRequest},
	{ErrSignature, http.StatusUnauthorized},
	{ErrTimestamp, http.StatusTooEarly},
	{ErrBodyTooLarge, http.StatusRequestEntityTooLarge},
	{ErrBody, http.StatusRequestTimeout},
	{ErrInProgress, http.StatusTooEarly},
	{ErrUnanswered, http.StatusServiceUnavailable},
	{ErrStore, http.StatusServiceUnavailable},
}

// DefaultStatus is the answer to a request that does not reach the next handler. By the specification every status but 2xx is a
// failure, and most senders retry after any of them. The worker of this module retries after 408, 425, 429 and 5xx, and gives
// up after all others. So a fault that can pass gets one of these:
//
//	ErrMissingHeader, ErrInvalidHeader   400, final: not what Standard Webhooks sends
//	ErrSignature                         401, final: not from our sender, or signed with a key we do not have
//	ErrTimestamp                         425 Too Early (RFC 8470: it "might be replayed"); a new attempt has a new one
//	ErrBodyTooLarge                      413, final
//	ErrBody                              408
//	ErrInProgress                        425: not 409, which is final, nor 429, which slows the whole endpoint down
//	ErrUnanswered, ErrStore              503
//	anything else                        500
//
// 401 is what senders expect, and an alarm on 5xx would be useless if anybody could cause it. But a receiver that gets its
// new key later than the sender loses messages by it, until they are replayed. So rotate in this order: first the receivers
// accept the new key, then the sender signs with it. Where that order is not possible, answer 503:
//
//	Status: func(err error) int {
//		if errors.Is(err, webhook.ErrSignature) {
//			return http.StatusServiceUnavailable
//		}
//		return webhook.DefaultStatus(err)
//	},
func DefaultStatus(err error) int {
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}

// refuse answers with the text of the sentinel, which names the kind of fault and quotes neither the request nor a secret.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	h.config.OnError(r, err)
	status := h.config.Status(err)
	if status < 400 || status > 599 {
		status = http.StatusInternalServerError
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "StandardWebhooks") // a 401 must name a scheme (RFC 9110, section 15.5.2)
	}
	text := http.StatusText(http.StatusInternalServerError)
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			text = s.err.Error()
			break
		}
	}
	http.Error(w, text, status)
}
