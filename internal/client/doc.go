// Package client calls the methods of deployments: the untyped part of the handles of package helve. A call may start in the node, in a
// worker, or in a test without a system; the caller does not see the difference, and this package decides it for each call.
//
// A [Binding] is a method that can be called, with the [Options] of its handle. A call begins with [Binding.Fill], which takes the
// request, the deadline and the trace over from the context of the caller. Then it goes one of four ways:
//
//   - a [Fake] has no deployment, and runs a function of the test;
//   - in a node, [graph.Deployment.Current] gives the deployment as it serves. A slot of a replica in this process is worth a function
//     call, which the typed code makes itself; all other calls are encoded and submitted there;
//   - in a worker, [Binding.Near] gives a slot that the node has lent for a replica in this process, which is a function call too;
//   - any other call from a worker goes through its port to the node.
//
// For example, a call with a binding b, without types:
//
//	var i call.Info
//	b.Fill(ctx, &i)
//	w := call.NewWaiter()
//	answer, failure := w.Wait(ctx, b.Submit(b.Call(ctx, i, "world"), w))
package client
