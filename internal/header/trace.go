package header

import (
	"fmt"
	"regexp"
	"strings"
)

// CheckTraceparent reports text that is not a traceparent (W3C Trace Context, section 3.2).
func CheckTraceparent(text string) error {
	if !isTraceparent(text) {
		return fmt.Errorf("traceparent %.60q; want VERSION-TRACE_ID-PARENT_ID-FLAGS in lower-case hex", text)
	}
	return nil
}

// isTraceparent is a loop and not a regular expression, because a worker with traces calls it for each attempt.
func isTraceparent(text string) bool {
	if len(text) != len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-00") {
		return false
	}
	for i := range len(text) {
		switch c := text[i]; {
		case i == 2, i == 35, i == 52:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}

// tracestateBytesMax is the length that everybody must be able to carry (section 3.3.1.5), and enough here.
const tracestateBytesMax = 512

// tracestateMember is a member of the list, KEY=VALUE (section 3.3.1.3). The value does not end with a space.
var tracestateMember = regexp.MustCompile(`^[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]$`)

// CheckTracestate reports text that is not a tracestate (W3C Trace Context, section 3.3), or one over 512 bytes or 32 members.
func CheckTracestate(text string) error {
	if len(text) > tracestateBytesMax {
		return fmt.Errorf("tracestate has %d bytes; want at most %d", len(text), tracestateBytesMax)
	}
	members := 0
	for member := range strings.SplitSeq(text, ",") {
		if member = strings.Trim(member, " \t"); member == "" {
			continue
		}
		if members++; !tracestateMember.MatchString(member) {
			return fmt.Errorf("tracestate member %.60q; want KEY=VALUE", member)
		}
	}
	if members < 1 || members > 32 {
		return fmt.Errorf("tracestate has %d members; want 1 to 32", members)
	}
	return nil
}
