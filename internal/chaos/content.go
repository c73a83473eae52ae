package main

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// forwardedHeader is the run header that each message forwards, with bytes of its own; keptHeader stays in the row.
const (
	forwardedHeader = "X-Chaos-Note"
	keptHeader      = "chaos_kept"
	tenantHeader    = "chaos_tenant"
)

// content is the outcome of one run. The seed decides all of it.
type content struct {
	outcome  outbox.RunOutcome
	rollBack bool // on purpose, after everything was written
}

const rolledBackShare = 0.08

// newContent draws a run whose outcome goes to one of the urls.
func newContent(r *rand.Rand, runID string, urls []string) content {
	c := content{rollBack: r.Float64() < rolledBackShare}
	o := outbox.RunOutcome{RunID: runID, FinalStep: r.Uint32N(5), Status: outbox.Succeeded, Headers: map[string]string{
		hook.DefaultURLHeader: urls[r.IntN(len(urls))],
		forwardedHeader:       runID + " " + printable(r, r.IntN(60)) + ".", // no space at its end, because HTTP would remove it
		keptHeader:            unicode(r, r.IntN(20)),
	}}
	if n := r.IntN(6); n < 3 { // the others name no tenant
		o.Headers[tenantHeader] = fmt.Sprint("tenant-", n)
	}
	switch share := r.Float64(); {
	case share < 0.6:
		o.Result = randomBytes(r, bodySize(r))
	case share < 0.8:
		o.Result = []byte(fmt.Sprintf(`{"run":%q,"text":%q}`, runID, unicode(r, r.IntN(200))))
	case share < 0.9:
		o.Status, o.Error = outbox.Failed, runID+" failed: "+unicode(r, r.IntN(200))
	default:
		o.Status, o.Error = outbox.Cancelled, runID+" cancelled: "+unicode(r, r.IntN(50))
	}
	c.outcome = o
	return c
}

// bodySize is mostly small; one in 60 is over the 64 KiB that a claim returns.
func bodySize(r *rand.Rand) int {
	if r.IntN(60) == 0 {
		return 64<<10 + r.IntN(150<<10)
	}
	return r.IntN(2000)
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// printable is text of ASCII's visible characters and spaces.
func printable(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(byte(' ' + r.IntN('~'-' '+1)))
	}
	return b.String()
}

// unicode is text of characters of one to four bytes; no NUL, which Postgres cannot carry.
func unicode(r *rand.Rand, n int) string {
	ranges := [][2]rune{{1, 0x7f}, {0xa0, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xfffd}, {0x10000, 0x10ffff}}
	var b strings.Builder
	for range n {
		one := ranges[r.IntN(len(ranges))]
		b.WriteRune(one[0] + r.Int32N(one[1]-one[0]+1))
	}
	return b.String()
}

// body is what the receiver must get.
func body(o outbox.RunOutcome) []byte {
	if o.Status == outbox.Succeeded {
		return o.Result
	}
	return []byte(o.Error)
}

func bodySum(o outbox.RunOutcome) []byte {
	sum := sha256.Sum256(body(o))
	return sum[:]
}
