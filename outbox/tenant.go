package outbox

import (
	"fmt"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// CheckTenant reports why a name cannot be a tenant's: it is 1 to 128 bytes of ASCII that are printable and not
// a space. The table enforces it too.
func CheckTenant(name string) error {
	if lane.IsTenant(name) {
		return nil
	}
	if len(name) > lane.TenantBytesMax {
		return fmt.Errorf("%d bytes; the limit is %d", len(name), lane.TenantBytesMax)
	}
	return fmt.Errorf("%q; want 1 to %d printable characters of ASCII without spaces", name, lane.TenantBytesMax)
}
