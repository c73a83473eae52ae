package instruments

// Upper bounds of buckets, in seconds.
var (
	// Requests are up to 15 s, the default of DeliveryTimeout.
	Requests = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15}
	// Statements range from the time of one statement to the longest that a worker waits.
	Statements = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60}
	// Lives are as long as a message may wait: retries go on for days.
	Lives = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 5, 15, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600}
	// Batches are counts, up to 512, the most that a record takes.
	Batches = []float64{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
)
