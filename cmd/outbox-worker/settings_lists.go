package main

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// schedule is a list of waits; "none" is an empty list, which differs from an unset one.
type schedule []time.Duration

// EnvDecode reads durations separated by commas.
func (s *schedule) EnvDecode(text string) error {
	switch strings.TrimSpace(text) {
	case "":
		return nil
	case "none":
		*s = schedule{}
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		wait, err := time.ParseDuration(strings.TrimSpace(part))
		if err != nil {
			return decodef("holds %.64q; want durations separated by commas, like 5s,5m,2h, or none", part)
		}
		*s = append(*s, wait)
	}
	return nil
}

func (s schedule) String() string {
	if len(s) == 0 {
		return "none"
	}
	waits := make([]string, len(s))
	for i, wait := range s {
		waits[i] = plainDuration(wait)
	}
	return strings.Join(waits, ",")
}

// networks is a list of CIDR prefixes.
type networks []netip.Prefix

// EnvDecode reads prefixes separated by commas. It refuses a bit beyond the length of the prefix: that is usually a mistake,
// and would open the wrong network.
func (n *networks) EnvDecode(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		prefix, err := netip.ParsePrefix(part)
		if addr, addrErr := netip.ParseAddr(part); err != nil && addrErr == nil {
			return decodef("holds the address %s; want a network: %s", addr, netip.PrefixFrom(addr, addr.BitLen()))
		}
		if err != nil {
			return decodef("holds %.64q; want networks separated by commas, like 10.0.0.0/8,fd00::/8", part)
		}
		if prefix != prefix.Masked() {
			return decodef("holds %s, an address within a network; want %s", prefix, prefix.Masked())
		}
		*n = append(*n, prefix)
	}
	return nil
}

func (n networks) String() string {
	texts := make([]string, len(n))
	for i, prefix := range n {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ",")
}

// statuses is a list of HTTP statuses; "none" is an empty list, which differs from an unset one.
type statuses []int

// EnvDecode reads statuses and ranges of them, separated by commas. The worker decides which are allowed.
func (s *statuses) EnvDecode(text string) error {
	switch text {
	case "":
		return nil
	case "none":
		*s = statuses{}
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			high = low
		}
		first, err := strconv.ParseUint(low, 10, 10)
		last, lastErr := strconv.ParseUint(high, 10, 10)
		if err != nil || lastErr != nil || first > last {
			return decodef("holds %.64q; want statuses separated by commas, like 408,429,500-599, or none", part)
		}
		for status := first; status <= last; status++ {
			*s = append(*s, int(status))
		}
	}
	return nil
}

// String writes runs of statuses as ranges.
func (s statuses) String() string {
	if len(s) == 0 {
		return "none"
	}
	var parts []string
	for i := 0; i < len(s); {
		j := i
		for j+1 < len(s) && s[j+1] == s[j]+1 {
			j++
		}
		part := strconv.Itoa(s[i])
		if j > i {
			part += "-" + strconv.Itoa(s[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// ports is a list of TCP ports; any when empty.
type ports []uint16

// EnvDecode reads ports separated by commas.
func (p *ports) EnvDecode(text string) error {
	if text == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(part), 10, 16)
		if err != nil || n == 0 {
			return decodef("holds %.64q; want ports separated by commas, like 443,8443", part)
		}
		*p = append(*p, uint16(n))
	}
	return nil
}

func (p ports) String() string {
	texts := make([]string, len(p))
	for i, port := range p {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ",")
}

// proxyURL may hold a password.
type proxyURL string

// String returns the URL with its password replaced.
func (u proxyURL) String() string {
	if u == "" {
		return ""
	}
	parsed, err := url.Parse(string(u))
	if err != nil || parsed.Host == "" {
		return "(not shown: it cannot be read)"
	}
	return parsed.Redacted()
}

// eventsURL may hold a secret in its path: chat webhooks have their token there. The worker checks whether it can be delivered
// to.
type eventsURL string

// String shows the origin.
func (u eventsURL) String() string {
	if u == "" {
		return ""
	}
	origin, err := outbox.CheckURL(string(u))
	if err != nil {
		return "(not shown: it cannot be read)"
	}
	if len(u) > len(origin)+1 {
		origin += "/" + redacted
	}
	return origin
}

// origins is a list of origins, which the worker checks.
type origins []string

// EnvDecode reads origins separated by commas.
func (o *origins) EnvDecode(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*o = append(*o, part)
		}
	}
	return nil
}

func (o origins) String() string { return strings.Join(o, ",") }
