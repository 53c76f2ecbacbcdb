// Package system starts a node with the applications that a program builds, or, in a child process of a node, the worker for one of the
// applications. It stands between package graph, an application as it is built, and package node, which owns replicas and
// knows deployments by their descriptions only.
//
// The same executable is the node and its workers, so a program begins with [WorkerMain] in either case. The environment that a node
// gives to its children decides. For example, the program of an application "hello":
//
//	system.WorkerMain(version, build) // in a worker of "hello" it serves replicas and never returns; elsewhere it does nothing
//	s, err := system.Config{Version: version, HTTP: "127.0.0.1:8000"}.Run(ctx, build)
//	...
//	err = s.Node.Close(ctx)
//
// The order of a start is fixed: first all that can fail without effect (the settings, the graph, the port), then the node, and then the
// replicas. So a mistake of the program touches no worker of a former node.
package system
