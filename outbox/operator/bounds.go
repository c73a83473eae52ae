package operator

// Bounds of what an operator may set for an endpoint. The tables enforce them too (migrations, CHECK constraints).
const (
	LimitInFlightMax = 10_000    // requests at once: the most that a worker can be configured for
	LimitRateMin     = 0.001     // requests per second: one in 1000 s
	LimitRateMax     = 1_000_000 // requests per second
)
