// Package httpmethod holds the HTTP methods that a message can be delivered with.
package httpmethod

import "slices"

// All lists them.
func All() []string { return []string{"POST", "PUT", "PATCH"} }

// Valid reports whether a method is one of them.
func Valid(name string) bool { return slices.Contains(All(), name) }
