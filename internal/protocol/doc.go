// Package protocol has the control requests between a node and the processes that are connected to it, its workers and
// drivers: one Go type for each request and one for each reply. A request travels as the body of a CONTROL frame, a JSON
// object whose "op" names its type, and its reply as the body of a REPLY frame. Package wire moves these frames without
// reading them. The table in docs/control.md describes the same requests for programs in other languages, and a test
// compares the two.
//
// Example: the node starts a replica in a worker.
//
//	started, err := protocol.Ask(ctx, peer, protocol.StartReplica{Replica: "D#1", App: "a", Deployment: "D"})
//
// sends {"op":"start_replica","replica":"D#1","app":"a","deployment":"D", ...}. The worker has a [Table] with a function for
// each request that it answers:
//
//	table := protocol.NewTable("Go workers", protocol.On(g.startReplica), protocol.On(g.ping))
//	reply, err := table.Serve(ctx, "start_replica", body)
//
// where startReplica is func(context.Context, StartReplica) (Started, error). To add a request: a type with the methods Op
// and Reply, its row in [Requests], a row in docs/control.md, and an [On] in the table of the side that answers it.
package protocol
