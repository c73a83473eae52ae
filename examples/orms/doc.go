// Package orms shows the hook in the transactions of GORM, ent, bun and sqlx: a file for each, and each does the same. It
// acknowledges a step, writes the run's outcome in the same transaction, and rolls both back on an error.
//
// It is a module of its own, so that nobody who embeds the hook gets these libraries. Copy the file for your library.
package orms

import "errors"

// errNotReady says that somebody else acknowledged the step: a retry after a lost connection, say.
var errNotReady = errors.New("the step is not ready")
