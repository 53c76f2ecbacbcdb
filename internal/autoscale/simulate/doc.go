// Package simulate runs an autoscaler against a load in fake time: calls arrive, queue, execute on replicas that start, drain and end, and the autoscaler is asked each
// 100 ms as in a node. It is pure: the same load, model and seed give the same result. [Shapes] has the loads of docs/autoscaling.md, [Read] reads the load of a user,
// [Run] runs one autoscaler ([Ours] or [Reference]), and [SVG] draws the result.
//
// # The model
//
// A call waits in the queue of its deployment until a replica has fewer than MaxOngoing calls, and goes to the replica with the fewest. A replica executes Parallel calls
// at once; its other calls wait inside it. A replica that is to stop takes no new call, and ends with its last one. For example, with MaxOngoing 5, Parallel 2 and one
// replica, of 7 calls of one second that arrive together 2 execute, 3 wait inside the replica, and 2 wait in the queue.
//
// # The optimum
//
// The optimum knows the load in advance, and its replicas start in no time: in each second it has the smallest number of replicas, within the bounds, that leaves less
// than one second of work behind when each replica executes Target calls at once.
package simulate
