// Package operator reads and changes the outbox for an operator: it lists messages, endpoints, tenants and workers, replays and
// cancels messages, pauses, resumes and limits endpoints, and erases what is kept of a tenant or a run. The program outbox-worker is
// made of it:
//
//	store, err := operator.NewStore(pool, "")
//	dead, err := store.List(ctx, operator.Filter{States: []outbox.State{outbox.StateDead}})
//	_, err = store.Replay(ctx, []outbox.ID{dead[0].ID}, "")
//
// A service that only writes outcomes does not need it. What became of a run, a service finds with [outbox.Runs].
package operator
