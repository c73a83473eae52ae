// Package operator reads and changes the outbox for an operator: it lists messages, endpoints, tenants and workers, replays and
// cancels messages, pauses, resumes and limits endpoints, and erases the data of a tenant or a run. The program outbox-worker
// uses it:
//
//	store, err := operator.NewStore(pool, "")
//	dead, err := store.List(ctx, operator.Filter{States: []outbox.State{outbox.StateDead}})
//	_, err = store.Replay(ctx, []outbox.ID{dead[0].ID}, "")
//
// A service that only writes outcomes does not need it. A service reads the messages of a run with [outbox.Runs].
package operator
