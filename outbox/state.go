package outbox

// State is the state of a message.
type State string

// The states of a message. StateDelivered is that of a message that is neither due nor dead.
const (
	StatePending    State = "pending"    // not tried yet
	StateDelivering State = "delivering" // leased by a worker
	StateRetrying   State = "retrying"   // tried, and to be tried again
	StateDelivered  State = "delivered"
	StateDead       State = "dead"      // given up; see its reason
	StateCancelled  State = "cancelled" // given up by an operator
)

// States lists every state, in the order in which a message may pass them.
var States = []State{StatePending, StateDelivering, StateRetrying, StateDelivered, StateDead, StateCancelled}
