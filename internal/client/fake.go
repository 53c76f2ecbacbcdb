package client

import (
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/transport"
)

// Fake stands for a deployment in tests of code that holds methods: its one replica takes any number of calls.
type Fake struct {
	serving.Base
	instance *instance.Instance
}

// NewFake returns the binding of a method that calls a function of the test.
func NewFake() Binding {
	d := &graph.Deployment{App: &graph.App{}, Name: "fake"}
	return Binding{
		Binding: graph.Binding{Deployment: d, Name: "fake"}, place: &call.Place{Deployment: "fake", Method: "fake"},
		Fake: &Fake{instance: instance.New("fake", nil)},
	}
}

// ID is the id of the replica.
func (f *Fake) ID() string { return f.instance.ID }

// Node is empty: there is none.
func (f *Fake) Node() string { return "" }

// Gate is never full.
func (f *Fake) Gate() router.Gate { return open{} }

// Instance is an instance without a value.
func (f *Fake) Instance() *instance.Instance { return f.instance }

// Transport is nil: the calls are function calls.
func (f *Fake) Transport() transport.Transport { return nil }

// open is a gate that is never full.
type open struct{}

func (open) TryAcquire() bool                                { return true }
func (open) Release(*call.Batch)                             {}
func (open) Load() int                                       { return 0 }
func (open) Wait(interface{ Granted(b *call.Batch) }) bool   { return true }
func (open) Unwait(interface{ Granted(b *call.Batch) }) bool { return false }
