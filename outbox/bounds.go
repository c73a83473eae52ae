package outbox

import "time"

// Bounds of what an operator may set for an endpoint. The tables enforce them too (migrations, CHECK constraints).
const (
	LimitInFlightMax = 10_000    // requests at once: the most that a worker can be configured for
	LimitRateMin     = 0.001     // requests per second: one in 1000 s
	LimitRateMax     = 1_000_000 // requests per second
)

// TimeMin and TimeMax bound the times that are read from the tables, where a person may have written an infinite one or one
// that JSON has no form for. A time beyond them is shown as the bound.
var (
	TimeMin = time.Unix(0, 0).UTC()
	TimeMax = time.Date(9999, time.January, 1, 0, 0, 0, 0, time.UTC)
)
