// Package helve serves models and any other code as deployments with replicas, composed through deployment handles.
//
// An application is a graph of deployments with one ingress. Write a constructor per deployment, bind the methods that
// others call, and hand the function that builds the graph to [Run] or to cli.Main:
//
//	down := helve.Deploy(app, "Downstream", newDownstream, helve.Options{NumReplicas: new(2)})
//	sayHi := helve.MethodOf(down, (*Downstream).SayHi)
//	greeting, err := sayHi.Call(ctx, "world")
//
// # Rules
//
// Shapes. A method takes a context and one input, and returns (Out, error) or error. Several values go in a struct, whose
// fields Python sees as keyword arguments; [None] stands for nothing.
//
// Build. Run takes a function, never an *App: a worker is the same executable, with its parent's arguments, environment
// and directory, and builds the same graph again. Build is deterministic and has no side effects; the description of the
// graph that a worker built is compared with the node's, and an error names the differences. Programs that build several
// applications call [WorkerMain] first in main; [Run] and cli.Main do it for their own.
//
// Mistakes in names, options and bindings are collected and returned together by Run, before anything starts. A zero
// [Method] returns an error. Cycles are legal; declared ones are logged.
//
// Call and Remote. Remote runs the method on a goroutine of its own; Call to a replica in the same process runs it on the
// caller's. If the context ended before the method returned, the result is the context's cause instead of the method's
// result, and the slot is held until the method returns. Call may therefore return late when a method ignores its context;
// the status counts such calls.
//
// Context. The context of a method ends when its call is cancelled or its deadline passes, not when the method returns.
// Calls that a method makes inherit the deadline and the cancellation of its own call, its request id and its trace.
//
// Arguments. In one process arguments pass by reference and are read-only by contract. Between processes they are encoded
// as MessagePack; field names are the tag helve, else json, else snake case.
//
// Admission. A replica executes at most [Options].MaxOngoingRequests calls at a time, over all callers. Calls wait in the
// order in which they came, per origin (each calling deployment, the HTTP proxy, everything else), and origins take turns.
//
// Life. An instance may implement [Closer], [HealthChecker] (CheckHealth: replace it), [ReadyChecker] (CheckReady: send it no calls) and [RoutingReporter].
//
// Errors. Every failed call returns an *[Error] with a code and a reason. A call that had not been started when its
// worker died is routed again. A call that had been started is lost, with reason replica_died, and never runs twice.
//
// Ingress over HTTP. POST, PUT and PATCH on any path (GET only for [None]; else 405). application/json is JSON into the
// input, else 400. text/* is taken as it is if the input is a string or []byte, else 415. No content type,
// application/x-www-form-urlencoded (curl's default) and application/octet-stream: JSON if the body decodes, else as it is
// if the input is a string or []byte, else 400. Other types 415. A string is answered as text/plain, []byte as
// octet-stream, the rest as JSON; a string as JSON only when Accept has application/json and neither text nor */*. The items of
// a [Stream] leave as they come: text as text/plain, []byte as octet-stream, the rest as lines of JSON (application/x-ndjson); an
// error after the first cuts the connection off. A deployment that is an http.Handler ([HTTP]) answers by itself.
package helve
