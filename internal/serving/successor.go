package serving

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/gate"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// A node that hands over to the next node takes no slot of its replicas any more, so that the gates of the next node alone decide which
// call runs. Calls that have a slot run on. Calls that wait, and calls that come, go to the next node, to the deployment of the same name, where
// they wait in its queue. For example, a replica has two slots and four calls: two run on under the former node, and two wait at the next one, which
// counts two slots as taken until the former node has given them up.

// successor stands for the next node in the router of a node that has handed over: a replica that takes any number of calls.
type successor struct {
	Base
	wire transport.Wire
}

// Instance is nil: the calls go through Transport.
func (s *successor) Instance() *instance.Instance { return nil }

// Transport sends calls to the deployment of the same name.
func (s *successor) Transport() transport.Transport { return &s.wire }

// Retire takes the replicas away from new calls for good. Calls wait until [Deployment.Succeed]. Broadcasts, which take no slot, go to the
// replicas as before.
func (d *Deployment) Retire() {
	d.updating.Lock()
	defer d.updating.Unlock()
	if d.former.Load() != nil {
		return
	}
	former := []Replica{}
	for _, r := range d.Router.Replicas() {
		former = append(former, replicaOf(r))
	}
	d.former.Store(&former)
	d.Router.Update(nil, nil)
}

// Succeed sends the calls of a deployment that was retired over a connection to the next node, until ctx ends. A later one replaces it: the
// next node may end, and another come. python says that the code is in Python.
func (d *Deployment) Succeed(ctx context.Context, peer *wire.Peer, cd *codec.Codec, python bool) {
	s := &successor{wire: transport.Wire{Peer: peer, App: d.App, Deployment: d.Name, Python: python, Codec: cd}}
	s.Init(ctx, nextNode, nextNode, gate.MostSlots)
	d.updating.Lock()
	defer d.updating.Unlock()
	d.Router.Update(nil, []router.Replica{s})
}

// nextNode is the id of the next node where a call has that of a replica.
const nextNode = "next node"

// formerReplicas are the replicas of a deployment that was retired; nil for others.
func (d *Deployment) formerReplicas() []Replica {
	if f := d.former.Load(); f != nil {
		return *f
	}
	return nil
}

// passOn is the end of a request of HTTP that the next node has to answer: an exchange does not go over the connection of calls.
func passOn(r Replica, c *call.Call) *call.Error {
	r.Gate().Release(nil)
	e := call.NewError(helvetype.ReasonDeploymentUnavailable, "this node has handed over to the next one, which does not answer")
	e.Cause = proxy.ErrNextNode
	return e.At(&c.Info)
}
