// Package graph is an application as a program builds it: an [App] with its deployments, the [Binding]s of their methods, and the
// mistakes in both. The generic types of package helve, which check receivers, inputs and outputs at compile time, fill the graph and
// keep no state beside it; this package does not know them.
//
// A graph has two phases. While it is built, every mistake is noted and nothing fails. [App.Seal] ends the building, settles the
// defaults, and returns either the description of the graph ([spec.Graph]) or all mistakes together. Afterwards an App is read only,
// but for two pointers per [Deployment]: the node or the worker that runs the application sets them, and calls follow them. For
// example, helve.Deploy and helve.MethodOf of a program with one deployment do this:
//
//	app := &graph.App{Name: "hello", RoutePrefix: "/"}
//	d := &graph.Deployment{App: app, Name: "Greeter", Receiver: reflect.TypeFor[*Greeter](), Declare: readOptions}
//	app.AddGo(d, graph.Code{Construct: newGreeter})
//	greet := graph.Bind(d, reflect.TypeFor[*Greeter](), reflect.ValueOf((*Greeter).Greet), "MethodOf", note)
//	app.SetIngress(&greet, spec.IngressMethod)
//	described, err := app.Seal()
//
// Package client calls the methods that are bound here. Package system deploys the applications.
package graph
