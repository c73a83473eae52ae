package postgres

import "time"

// Saying is what one answer says about the health of a lane. The zero value, except for Lane, says that the lane answers, which closes
// its circuit breaker.
type Saying struct {
	Lane     string
	Failures int           // how many more failures in a row; OpenAfter of them open the circuit breaker
	Hold     time.Duration // for how long nothing is sent there
	HalfOpen bool          // one message at a time from now on, without a pause; without Failures, only if it was so before
}

// givenSayings are the sayings of a batch, from the arguments that sayings.args makes.
const givenSayings = `SELECT * FROM unnest($17::text[]::uuid[], $18::text[], $19::integer[], $20::bigint[], $21::boolean[])
        AS s (message_id, endpoint, failures, hold_ms, half_open)`

// sayings are the sayings of a batch, as the columns that givenSayings takes.
type sayings struct {
	ids, lanes []string
	failures   []int32
	holds      []int64
	halfOpen   []bool
}

func (s *sayings) add(id string, said []Saying) {
	for _, x := range said {
		s.ids, s.lanes = append(s.ids, id), append(s.lanes, x.Lane)
		s.failures, s.holds, s.halfOpen = append(s.failures, int32(x.Failures)), append(s.holds, x.Hold.Milliseconds()), append(s.halfOpen, x.HalfOpen)
	}
}

func (s *sayings) args() []any {
	if s.ids == nil { // NULL would be no array
		return []any{[]string{}, []string{}, []int32{}, []int64{}, []bool{}}
	}
	return []any{s.ids, s.lanes, s.failures, s.holds, s.halfOpen}
}
