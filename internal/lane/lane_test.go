package lane

import (
	"slices"
	"strings"
	"testing"
)

func TestEachPartOfALaneCanBeReadBack(t *testing.T) {
	t.Parallel()
	const origin, url = "https://example.com:8443", "https://example.com:8443/hooks?token=1"
	for _, tenant := range []string{"", "acme", "#acme", "a:b/c"} {
		owner := Of(origin, tenant)
		for _, key := range []string{owner, OfURL(owner, url)} {
			if Origin(key) != origin || Tenant(key) != tenant || Owner(key) != owner {
				t.Errorf("%q is read as origin %q, tenant %q, owner %q, want %q, %q, %q", key, Origin(key), Tenant(key), Owner(key), origin, tenant, owner)
			}
			if IsURL(key) != (key != owner) {
				t.Errorf("IsURL(%q) is %v, want %v", key, IsURL(key), key != owner)
			}
		}
	}
}

func TestLanesOfAnOriginSortTogetherAndURLsAfterTheirOwner(t *testing.T) {
	t.Parallel()
	const o = "https://example.com"
	want := []string{
		o, OfURL(o, "u"), Of(o, "acme"), OfURL(Of(o, "acme"), "u"), Of(o, "acme2"), o + ".net", o + ":8443",
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("sorted, the lanes are %q, want %q", got, want)
	}
}

func TestATenantsNameIsShortPrintableASCIIWithoutSpaces(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"acme": true, "a": true, "~!#": true, strings.Repeat("a", TenantBytesMax): true,
		"": false, "a b": false, " a": false, "a\t": false, "a\x00": false, "é": false, "a\x7f": false, strings.Repeat("a", TenantBytesMax+1): false,
	} {
		if IsTenant(name) != want {
			t.Errorf("IsTenant(%q) is %v, want %v", name, !want, want)
		}
	}
}
