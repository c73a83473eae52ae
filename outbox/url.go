package outbox

import "github.com/seed-abbacb8b/epilogue/internal/callback"

// CheckURL returns the endpoint of a callback URL: its origin, in lower case and ASCII, without the default port. The error of a URL
// that can never be delivered to names its fault, and no more of its text than the scheme, because it may hold a secret.
func CheckURL(raw string) (endpoint string, err error) { return callback.Check(raw) }
