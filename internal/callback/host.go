package callback

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

// hostBytesMax is the longest name that DNS allows, and labelBytesMax its longest label (RFC 1035, section 2.3.4). They also
// keep an endpoint short enough for an index: a longer one would be an error of the database, and so of the run.
const (
	hostBytesMax  = 253
	labelBytesMax = 63
)

var errNotAHost = errors.New("url: host is not a name or an address")

// canonicalHost returns the canonical form of a host: a name in lower case and ASCII, an IPv4 address in four decimal numbers,
// an IPv6 address in brackets and in its short form. Requests go to this form too, so that two spellings of one host are one
// endpoint. Only DNS knows whether the host exists.
func canonicalHost(u *url.URL) (string, error) {
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(u.Hostname())
		switch {
		case err != nil || addr.Zone() != "":
			return "", errors.New("url: host is not an IPv6 address, or has a zone, which means nothing elsewhere")
		case addr.Is4In6():
			return addr.Unmap().String(), nil
		}
		return "[" + addr.String() + "]", nil
	}
	host, err := asciiName(strings.TrimSuffix(u.Hostname(), "."))
	if err != nil {
		return "", err
	}
	if len(host) > hostBytesMax {
		return "", fmt.Errorf("url: host has %d bytes, the limit is %d", len(host), hostBytesMax)
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if isNumber(last) { // an address to some resolvers, in forms such as 127.1 and 0x7f000001
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return "", errors.New("url: host ends in a number and is not an IPv4 address")
		}
		return addr.String(), nil
	}
	return host, nil
}

// isNumber reports what resolvers may read as a number of an IPv4 address.
func isNumber(label string) bool {
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = hex, digits+"abcdef"
	}
	return strings.Trim(label, digits) == ""
}

// asciiName returns the ASCII form of a name: each label mapped as IDNA does (UTS #46) and then in Punycode (RFC 3492).
func asciiName(name string) (string, error) {
	if cleantext.IsASCII(name) {
		name = strings.ToLower(name)
	} else if name = mapName(name); name != mapName(name) {
		return "", errNotAHost
	}
	labels := strings.Split(name, ".")
	for i, label := range labels {
		if !validLabel(label) {
			return "", errNotAHost
		}
		if !cleantext.IsASCII(label) {
			labels[i] = "xn--" + punycode(label)
		}
		if len(labels[i]) > labelBytesMax {
			if len(name) > hostBytesMax {
				break // its length is the simpler fault
			}
			return "", fmt.Errorf("url: a part of the host has %d bytes, the limit is %d", len(labels[i]), labelBytesMax)
		}
	}
	return strings.Join(labels, "."), nil
}

// mapName maps the spellings of a name to one: width, case, composition, and invisible characters.
func mapName(name string) string {
	var mapped strings.Builder
	fold := cases.Fold()
	for _, r := range name {
		switch {
		case r == 'ß', r == 'ς': // letters of their own since IDNA 2008
			mapped.WriteRune(r)
		case r == 'ẞ':
			mapped.WriteRune('ß')
		case !notSeen(r):
			mapped.WriteString(fold.String(norm.NFKD.String(string(r))))
		}
	}
	return strings.ReplaceAll(norm.NFKC.String(mapped.String()), "。", ".") // the ideographic full stop
}

// notSeen reports invisible characters: soft hyphens, joiners and variation selectors, which UTS #46 ignores.
func notSeen(r rune) bool {
	switch {
	case r == 0xad, r == 0x34f, r >= 0x180b && r <= 0x180f && r != 0x180e, r == 0x200b, r == 0x2060, r == 0xfeff,
		r >= 0xfe00 && r <= 0xfe0f, r >= 0xe0100 && r <= 0xe01ef:
		return true
	}
	return false
}

// validLabel accepts letters and digits of any script.
func validLabel(label string) bool {
	first, _ := utf8.DecodeRuneInString(label)
	return label != "" && !unicode.Is(unicode.M, first) && !strings.ContainsFunc(label, notInHost)
}

func notInHost(r rune) bool {
	if r < utf8.RuneSelf {
		return r != '-' && r != '_' && !('a' <= r && r <= 'z') && !('0' <= r && r <= '9')
	}
	return r == utf8.RuneError || !unicode.In(r, unicode.L, unicode.M, unicode.N)
}

// The parameters of Punycode (RFC 3492, section 5).
const (
	punyBase, punyMin, punyMax = 36, 1, 26
	punySkew, punyDamp         = 38, 700
	punyBias, punyFirst        = 72, 128
)

// punycode encodes a label that is not ASCII (RFC 3492, section 6.3). A label of at most BytesMax bytes overflows nothing.
func punycode(label string) string {
	var out []byte
	runes := []rune(label)
	for _, r := range runes {
		if r < punyFirst {
			out = append(out, byte(r))
		}
	}
	basic := len(out)
	if basic > 0 {
		out = append(out, '-')
	}
	n, delta, bias := rune(punyFirst), 0, punyBias
	for done := basic; done < len(runes); {
		next := rune(math.MaxInt32)
		for _, r := range runes {
			if r >= n && r < next {
				next = r
			}
		}
		delta += int(next-n) * (done + 1)
		n = next
		for _, r := range runes {
			if r < n {
				delta++
			}
			if r != n {
				continue
			}
			out = punyDelta(out, delta, bias)
			bias = punyAdapt(delta, done+1, done == basic)
			delta = 0
			done++
		}
		delta++
		n++
	}
	return string(out)
}

// punyDelta appends a number of variable length.
func punyDelta(out []byte, delta, bias int) []byte {
	for k := punyBase; ; k += punyBase {
		threshold := min(max(k-bias, punyMin), punyMax)
		if delta < threshold {
			return append(out, punyDigits[delta])
		}
		digit := threshold + (delta-threshold)%(punyBase-threshold)
		out = append(out, punyDigits[digit])
		delta = (delta - threshold) / (punyBase - threshold)
	}
}

const punyDigits = "abcdefghijklmnopqrstuvwxyz0123456789"

func punyAdapt(delta, points int, first bool) int {
	if first {
		delta /= punyDamp
	} else {
		delta /= 2
	}
	delta += delta / points
	k := 0
	for delta > (punyBase-punyMin)*punyMax/2 {
		delta /= punyBase - punyMin
		k += punyBase
	}
	return k + (punyBase-punyMin+1)*delta/(delta+punySkew)
}
