// Package lane names the queues that messages wait in. Claims, health, pauses and limits are per lane. Its key is in
// outbox.due.endpoint and outbox.endpoint.endpoint:
//
//	https://example.com                 messages to this origin that name no tenant; its row also bounds all lanes below
//	https://example.com acme            messages of the tenant acme to this origin
//	https://example.com acme #9f86d081… messages of acme to one URL at this origin that was set aside, because it fails
//	https://example.com  #9f86d081…     the same without a tenant: there are two spaces
//
// No origin and no tenant contains a space. A space sorts before every character of theirs, so the lanes of an origin are
// adjacent in an index, and the lanes of a tenant's URLs follow the lane of the tenant.
//
// One column holds all of it, so that one index serves messages with and without a tenant, at no further cost.
package lane

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Of returns the lane of a tenant's messages to an origin; tenant is "" for messages that name none.
func Of(origin, tenant string) string {
	if tenant == "" {
		return origin
	}
	return origin + " " + tenant
}

// OfURL returns the lane of one URL whose messages wait in a lane. The lane must be an owner's (see [Owner]).
func OfURL(lane, url string) string {
	separator := " #"
	if strings.IndexByte(lane, ' ') < 0 {
		separator = "  #"
	}
	sum := sha256.Sum256([]byte(url))
	return lane + separator + hex.EncodeToString(sum[:8])
}

// Origin returns the origin of a lane.
func Origin(lane string) string {
	origin, _, _ := strings.Cut(lane, " ")
	return origin
}

// Tenant returns the tenant of a lane, "" for none.
func Tenant(lane string) string {
	_, rest, _ := strings.Cut(lane, " ")
	tenant, _, _ := strings.Cut(rest, " ")
	return tenant
}

// Owner returns the lane without the part that names a URL: the tenant's at the origin.
func Owner(lane string) string {
	return Of(Origin(lane), Tenant(lane))
}

// IsURL reports that a lane holds the messages of one URL.
func IsURL(lane string) bool { return strings.Count(lane, " ") == 2 }

// TenantBytesMax is the longest name of a tenant.
const TenantBytesMax = 128

// IsTenant reports that a name can be a tenant's: 1 to 128 bytes of ASCII that are printable and not a space.
func IsTenant(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return name != "" && len(name) <= TenantBytesMax
}
