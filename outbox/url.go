package outbox

import "github.com/seed-abbacb8b/epilogue/internal/callback"

// CheckURL returns the endpoint of a callback URL: its origin, in lower case and ASCII, without the default port. If the URL
// can never be delivered to, the error names the fault. It quotes at most the scheme of the URL, which may hold a secret.
func CheckURL(raw string) (endpoint string, err error) { return callback.Check(raw) }
