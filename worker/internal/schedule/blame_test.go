package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

const (
	blameOrigin    = "https://example.com"
	blameTenant    = blameOrigin + " acme"
	blameOpenAfter = 6
)

// said returns what an answer counts against, as text: the kind of each lane, and what the answer says about it.
func said(b Blamed) string {
	var words []string
	for _, s := range b.Says {
		word := "answers"
		switch {
		case s.HalfOpen:
			word = "half-open"
		case s.Failures > 0 && s.Hold > 0:
			word = fmt.Sprintf("fails %d and holds", s.Failures)
		case s.Failures > 0:
			word = fmt.Sprintf("fails %d", s.Failures)
		case s.Hold > 0:
			word = "holds"
		}
		kind := "origin"
		if lane.IsURL(s.Lane) {
			kind = "URL"
		} else if lane.Tenant(s.Lane) != "" {
			kind = "tenant"
		}
		words = append(words, kind+" "+word)
	}
	slices.Sort(words)
	text := strings.Join(words, ", ")
	if b.MoveTo != "" {
		text += "; moves"
	}
	return text
}

var (
	blameOK       = Answer{Kind: Delivered, StatusCode: 200}
	blame404      = Answer{Kind: Status, StatusCode: 404}
	blame410      = Answer{Kind: Status, StatusCode: 410}
	blame429      = Answer{Kind: Status, StatusCode: 429}
	blame500      = Answer{Kind: Status, StatusCode: 500}
	blameSilent   = Answer{Kind: Timeout}
	blameReset    = Answer{Kind: Failed}
	blameNoRoute  = Answer{Kind: Failed, Unreached: true}
	blameNoAnswer = Answer{Kind: Timeout, Unreached: true}
)

// TestWhoseFaultOneAnswerIs has cases for each kind of answer, for each kind of lane, and for probes.
func TestWhoseFaultOneAnswerIs(t *testing.T) {
	t.Parallel()
	ofURL, ofTenantsURL := lane.OfURL(blameOrigin, "u"), lane.OfURL(blameTenant, "u")
	for name, c := range map[string]struct {
		answer Answer
		hold   time.Duration
		in     string
		probe  bool
		want   string
	}{
		"accepted":                         {blameOK, 0, blameOrigin, false, "origin answers"},
		"accepted, of a tenant":            {blameOK, 0, blameTenant, false, "origin answers, tenant answers"},
		"accepted, of a URL":               {blameOK, 0, ofURL, true, "URL answers, origin answers"},
		"accepted, of a tenant's URL":      {blameOK, 0, ofTenantsURL, true, "URL answers, origin answers"},
		"refused":                          {blame404, 0, blameTenant, false, "origin answers, tenant answers"},
		"too many":                         {blame429, 0, blameOrigin, false, "origin answers"},
		"gone":                             {blame410, 0, blameOrigin, false, "URL half-open, origin answers; moves"},
		"gone, of a tenant":                {blame410, 0, blameTenant, false, "URL half-open, origin answers, tenant answers; moves"},
		"gone, of a URL":                   {blame410, 0, ofURL, true, "URL half-open, origin answers"},
		"asks to wait":                     {blame429, time.Hour, blameOrigin, false, "URL holds, origin answers; moves"},
		"asks to wait, of a tenant":        {blame429, time.Hour, blameTenant, false, "URL holds, origin answers, tenant answers; moves"},
		"asks to wait, of a URL":           {blame429, time.Hour, ofURL, false, "URL holds, origin answers"},
		"fails and asks to wait, of a URL": {blame500, time.Hour, ofURL, true, "URL fails 1 and holds, origin answers"},
		"fails":                            {blame500, 0, blameOrigin, false, "origin answers"},
		"fails, of a tenant":               {blame500, 0, blameTenant, false, "origin answers, tenant answers"},
		"fails, of a URL":                  {blame500, 0, ofURL, true, "URL fails 1, origin answers"},
		"fails as a probe":                 {blame500, 0, blameOrigin, true, "URL fails 6, origin fails 1; moves"},
		"fails as a tenant's probe":        {blame500, 0, blameTenant, true, "URL fails 6, origin answers, tenant fails 1; moves"},
		"silent":                           {blameSilent, 0, blameOrigin, false, ""},
		"reset":                            {blameReset, 0, blameOrigin, false, ""},
		"silent, of a tenant":              {blameSilent, 0, blameTenant, false, "origin answers"}, // a connection was made
		"silent as a probe":                {blameSilent, 0, blameOrigin, true, "URL fails 6, origin fails 1; moves"},
		"silent, of a URL":                 {blameSilent, 0, ofURL, true, "URL fails 1"},
		"silent, of a tenant's URL":        {blameSilent, 0, ofTenantsURL, true, "URL fails 1, origin answers"},
		"not reached":                      {blameNoRoute, 0, blameOrigin, false, "origin fails 1"},
		"not reached in time":              {blameNoAnswer, 0, blameOrigin, true, "origin fails 1"},
		"not reached, of a tenant":         {blameNoRoute, 0, blameTenant, false, "origin fails 1"},
		"not reached, of a tenant's URL":   {blameNoRoute, 0, ofTenantsURL, true, "origin fails 1"},
		"not sent":                         {Answer{Kind: NotSent}, 0, blameTenant, true, ""},
		"not permitted":                    {Answer{Kind: Refused}, 0, blameTenant, true, ""},
	} {
		got := NewBlame(blameOpenAfter).Note(Attempt{Lane: c.in, URL: "u", Answer: c.answer, Hold: c.hold, Probe: c.probe}, began)
		if said(got) != c.want {
			t.Errorf("%s: got %q, want %q", name, said(got), c.want)
		}
	}
}

// history notes answers of several URLs in one lane, and returns what the last one counts against.
func history(b *Blame, in string, answers ...any) (last Blamed) {
	for i := 0; i < len(answers); i += 2 {
		last = b.Note(Attempt{Lane: in, URL: answers[i].(string), Answer: answers[i+1].(Answer)}, began.Add(time.Duration(i)*time.Second))
	}
	return last
}

func repeat(n int, answers ...any) (all []any) {
	for range n {
		all = append(all, answers...)
	}
	return all
}

// TestWhoseFaultFailuresInARowAre: they are the URL's, unless several URLs fail and none of them has most of the failures.
func TestWhoseFaultFailuresInARowAre(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers []any
		want    string // what the last answer counts against
	}{
		"five of one URL":                  {repeat(5, "a", blame500), "origin answers, tenant answers"},
		"six of one URL":                   {repeat(6, "a", blame500), "URL fails 6, origin answers, tenant answers; moves"},
		"two silences":                     {repeat(2, "a", blameSilent), "origin answers"},
		"three silences":                   {repeat(3, "a", blameReset), "URL fails 6, origin answers; moves"},
		"a good one of it between":         {append(repeat(5, "a", blame500), "a", blameOK, "a", blame500), "origin answers, tenant answers"},
		"a good one of others":             {append(repeat(5, "a", blame500), "b", blameOK, "a", blame500), "URL fails 6, origin answers, tenant answers; moves"},
		"after it was set aside":           {repeat(7, "a", blame500), "origin answers, tenant answers"},
		"six of two URLs":                  {repeat(3, "a", blame500, "b", blame500), "origin answers, tenant answers"},
		"six of three URLs":                {repeat(2, "a", blame500, "b", blame500, "c", blame500), "origin answers, tenant fails 6"},
		"five of three URLs":               {repeat(1, "a", blame500, "b", blame500, "c", blame500, "a", blame500, "b", blame500), "origin answers, tenant answers"},
		"six of three URLs, most of one":   {append(repeat(4, "a", blame500), "b", blame500, "c", blame500), "origin answers, tenant answers"},
		"six of three URLs, half of one":   {append(repeat(3, "a", blame500), "b", blame500, "c", blame500, "b", blame500), "origin answers, tenant fails 6"},
		"six of three, a good one between": {append(repeat(1, "a", blame500, "b", blame500, "c", blame500), "d", blameOK, "a", blame500, "b", blame500, "c", blame500), "origin answers, tenant answers"},
		"unreached ones do not count":      {append(repeat(5, "a", blame500), "a", blameNoRoute), "origin fails 1"},
		"six of six URLs, silent":          {[]any{"a", blameSilent, "b", blameSilent, "c", blameSilent, "d", blameSilent, "e", blameSilent, "f", blameSilent}, "origin answers, tenant fails 6"},
	} {
		if got := said(history(NewBlame(blameOpenAfter), blameTenant, c.answers...)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestRetryAfterFromThreeURLsWithinAMinuteHoldsTheirLane(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		urls  string
		every time.Duration
		holds bool
	}{
		"three":            {"abc", time.Second, true},
		"two, again":       {"abab", time.Second, false},
		"three, too late":  {"abc", 30 * time.Second, false},
		"three, in time":   {"abc", 29 * time.Second, true},
		"two of them late": {"abcd", 31 * time.Second, false},
	} {
		b := NewBlame(blameOpenAfter)
		var last Blamed
		for i, url := range c.urls {
			last = b.Note(Attempt{Lane: blameTenant, URL: string(url), Answer: blame429, Hold: time.Hour}, began.Add(time.Duration(i)*c.every))
		}
		if holds := strings.Contains(said(last), "tenant holds"); holds != c.holds {
			t.Errorf("%s: got %q, want the tenant's lane held: %v", name, said(last), c.holds)
		}
	}
}

// One tenant's failures do not count against another tenant, not even at the same URL.
func TestTenantsFailuresAreCountedApart(t *testing.T) {
	t.Parallel()
	b := NewBlame(blameOpenAfter)
	history(b, blameTenant, repeat(5, "u", blame500)...)
	if got := said(history(b, blameOrigin+" globex", "u", blame500)); got != "origin answers, tenant answers" {
		t.Errorf("another tenant's first failure counts as %q, want that nothing fails", got)
	}
	history(b, blameTenant, "u", blame500)
	if _, aside := b.Aside(blameTenant, "u"); !aside {
		t.Error("after six failures the URL is not set aside")
	}
	for _, other := range []string{blameOrigin, blameOrigin + " globex"} {
		if to, aside := b.Aside(other, "u"); aside {
			t.Errorf("the URL is set aside for %q as well, in %s; want it set aside for one tenant", other, to)
		}
	}
}

// The URLs that are set aside are those of the database, and for a short time those that this worker has set aside itself.
func TestTheDatabaseSaysWhichURLsAreSetAside(t *testing.T) {
	t.Parallel()
	b := NewBlame(blameOpenAfter)
	aside := func(url string) bool {
		_, ok := b.Aside(blameOrigin, url)
		return ok
	}
	b.Note(Attempt{Lane: blameOrigin, URL: "here", Answer: blame410}, began)
	b.SetAside([]string{lane.OfURL(blameOrigin, "elsewhere")}, began.Add(asideKept-1))
	if !aside("here") || !aside("elsewhere") || aside("another") {
		t.Errorf("set aside are %v, want here and elsewhere", b.AsideOf(blameOrigin))
	}
	b.SetAside(nil, began.Add(asideKept))
	if aside("here") || aside("elsewhere") {
		t.Errorf("set aside are %v, want neither here nor elsewhere", b.AsideOf(blameOrigin))
	}
	b.Note(Attempt{Lane: blameOrigin, URL: "here", Answer: blame410}, began)
	b.Closed(lane.OfURL(blameOrigin, "here"))
	b.Closed(blameOrigin)
	if aside("here") {
		t.Error("the URL is set aside after its circuit breaker closed")
	}
}

// TestATenantsURLsThatAreSetAsideAreBounded: beyond the bound, the rows of those set aside for longest are changed to answering,
// so that they can be pruned. Otherwise messages with a URL each, all of them gone, would leave a row each.
func TestATenantsURLsThatAreSetAsideAreBounded(t *testing.T) {
	t.Parallel()
	b := NewBlame(blameOpenAfter)
	rows := map[string]bool{} // the lanes whose rows say that they fail
	for i := range 3 * asideMost {
		got := b.Note(Attempt{Lane: blameTenant, URL: fmt.Sprint("u", i), Answer: blame410}, began.Add(time.Duration(i)*time.Millisecond))
		for _, s := range got.Says {
			if s.Failures > 0 {
				rows[s.Lane] = true
			} else {
				delete(rows, s.Lane)
			}
		}
	}
	if len(rows) != asideMost || len(b.AsideOf(blameTenant)) != asideMost {
		t.Errorf("%d rows say failing, and %d URLs are set aside; want %d of both", len(rows), len(b.AsideOf(blameTenant)), asideMost)
	}
	for _, c := range []struct {
		url   string
		aside bool
	}{{"u0", false}, {fmt.Sprint("u", 2*asideMost-1), false}, {fmt.Sprint("u", 2*asideMost), true}, {fmt.Sprint("u", 3*asideMost-1), true}} {
		if _, aside := b.Aside(blameTenant, c.url); aside != c.aside {
			t.Errorf("%s is set aside: %v, want %v", c.url, aside, c.aside)
		}
	}
	history(b, blameOrigin, "another tenant's", blame410)
	if len(b.AsideOf(blameTenant)) != asideMost {
		t.Error("a URL of another tenant changed which URLs of this one are set aside, want a bound for each tenant")
	}
}

// TestMemoryForFailuresIsBounded, however many URLs and origins fail.
func TestMemoryForFailuresIsBounded(t *testing.T) {
	t.Parallel()
	b := NewBlame(1_000_000)
	for i := range 3 * urlsKept {
		history(b, blameOrigin, fmt.Sprint("u", i), blame500)
		history(b, blameOrigin, "the last used one stays", blame500)
	}
	faults := b.lanes[blameOrigin]
	if len(faults.urls) != urlsKept || faults.recent.Len() != urlsKept || len(faults.by) > urlsKept {
		t.Errorf("%d URLs are kept, %d in their order and %d counted; want the bound", len(faults.urls), faults.recent.Len(), len(faults.by))
	}
	if u := faults.url(b.hash("the last used one stays")); u.inARow != 3*urlsKept {
		t.Errorf("the URL that was used all the time has %d failures, want %d", u.inARow, 3*urlsKept)
	}
	for i := range 2 * lanesKept {
		before := len(b.lanes)
		history(b, fmt.Sprintf("https://host-%d.example", i), "u", blame500)
		if len(b.lanes) < before && len(b.lanes) != lanesKept*9/10+1 {
			t.Fatalf("%d lanes are left after some were dropped, want nine tenths and the new one", len(b.lanes))
		}
	}
	if len(b.lanes) > lanesKept {
		t.Errorf("%d lanes are kept, want %d at most", len(b.lanes), lanesKept)
	}
}
