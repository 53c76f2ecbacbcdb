package controller

import (
	"fmt"
	"maps"
	"slices"

	"github.com/helve-serve/helve/helvetype"
)

// transitions is the state of every object at the last comparison. The events are the differences to the state now.
type transitions struct {
	states map[helvetype.Object]string
	said   map[helvetype.Object]string // messages of the states of applications and deployments
	ids    map[helvetype.Object]uint64 // the last event of each
}

// noteLocked emits an event for each object that has changed. The event of a deployment names the newest of its replicas' events as its
// cause, and that of an application the newest of its deployments'. For example: a replica dies (event 7), so its deployment is
// UNHEALTHY (event 8, cause 7), so its application is UNHEALTHY (event 9, cause 8).
func (c *Controller) noteLocked() {
	t := &c.noted
	if t.states == nil {
		*t = transitions{map[helvetype.Object]string{}, map[helvetype.Object]string{}, map[helvetype.Object]uint64{}}
	}
	seen := map[helvetype.Object]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.apps)) {
		a := c.apps[name]
		app := helvetype.Object{Kind: helvetype.KindApplication, App: name}
		status := a.statusLocked()
		var fromDeployments uint64
		for _, dname := range slices.Sorted(maps.Keys(a.deployments)) {
			d := a.deployments[dname]
			dep := helvetype.Object{Kind: helvetype.KindDeployment, App: name, Deployment: dname}
			var fromReplicas uint64
			ds := status.Deployments[dname]
			for _, r := range ds.Replicas {
				seen[d.object(r.ID)] = true
			}
			for o := range t.states {
				if o.Kind == helvetype.KindReplica && o.App == name && o.Deployment == dname && !seen[o] {
					fromReplicas = max(fromReplicas, c.noteEndLocked(d, o))
				}
			}
			for _, r := range ds.Replicas { // after the ends: a replica that takes another's place names its end
				fromReplicas = max(fromReplicas, c.noteReplicaLocked(d, r))
			}
			seen[dep] = true
			wanted := d.wanted
			ready := 0
			for _, r := range ds.Replicas {
				if r.State == helvetype.ReplicaRunning {
					ready++
				}
			}
			fromDeployments = max(fromDeployments, c.noteStateLocked(helvetype.Event{
				Object: dep, To: string(ds.Status), Message: ds.Message, Cause: fromReplicas,
				Inputs: map[string]string{"ready": fmt.Sprint(ready), "wanted": fmt.Sprint(wanted)},
			}))
		}
		seen[app] = true
		c.noteStateLocked(helvetype.Event{
			Object: app, To: string(status.Status), Message: status.Message, Cause: fromDeployments,
			Inputs: map[string]string{"revision": fmt.Sprint(a.current.number)},
		})
	}
	for _, kind := range []string{helvetype.KindReplica, helvetype.KindDeployment, helvetype.KindApplication} {
		for o, from := range t.states {
			if o.Kind == kind && !seen[o] {
				c.set.Events.Emit(helvetype.Event{Object: o, From: from, Reason: "deleted"})
				t.forget(o)
			}
		}
	}
}

func (t *transitions) forget(o helvetype.Object) {
	delete(t.states, o)
	delete(t.said, o)
	delete(t.ids, o)
}

func (c *Controller) noteStateLocked(ev helvetype.Event) uint64 {
	t := &c.noted
	was, there := t.states[ev.Object]
	if there && was == ev.To && t.said[ev.Object] == ev.Message {
		return 0
	}
	if there && was == ev.To && ev.Message == "" { // the trouble is over, and was none of its own
		t.said[ev.Object] = ""
		return 0
	}
	ev.From = was
	t.states[ev.Object], t.said[ev.Object] = ev.To, ev.Message
	id := c.set.Events.Emit(ev)
	t.ids[ev.Object] = id
	return id
}

func (c *Controller) noteReplicaLocked(d *deployment, r helvetype.ReplicaStatus) uint64 {
	t, o := &c.noted, d.object(r.ID)
	was, there := t.states[o]
	if there && was == string(r.State) {
		return 0
	}
	ev := helvetype.Event{Object: o, From: was, To: string(r.State), Cause: t.ids[o]}
	switch r.State {
	case helvetype.ReplicaStarting:
		ev.Reason = "start"
		if r.LastExit != nil {
			ev.Reason, ev.Message = "restart", fmt.Sprintf("it takes the place of %s", r.LastExit.Replica)
			if h := c.set.Events.History(d.object(r.LastExit.Replica)); len(h) > 0 {
				ev.Cause = h[len(h)-1].ID
			}
		}
	case helvetype.ReplicaRecovering:
		ev.Reason = "recover"
	case helvetype.ReplicaRunning:
		ev.Reason = "ready"
	case helvetype.ReplicaStopping:
		ev.Reason = "stop"
	}
	t.states[o] = string(r.State)
	id := c.set.Events.Emit(ev)
	t.ids[o] = id
	return id
}

// noteEndLocked is for a replica that is gone.
func (c *Controller) noteEndLocked(d *deployment, o helvetype.Object) uint64 {
	t := &c.noted
	ev := helvetype.Event{Object: o, From: t.states[o], Reason: "stopped", Cause: t.ids[o]}
	if exit := d.exitLocked(o.Replica); exit != nil {
		ev.Reason, ev.Message = "died", exit.Reason
		if ev.From == string(helvetype.ReplicaStarting) {
			ev.Reason = "start_failed"
		}
		ev.Inputs = map[string]string{"code": fmt.Sprint(exit.Code), "signal": exit.Signal, "out_of_memory": fmt.Sprint(exit.OutOfMemory)}
	}
	t.forget(o)
	return c.set.Events.Emit(ev)
}

// exitLocked is how a replica ended that nothing had asked to end; nil if something had.
func (d *deployment) exitLocked(replica string) *helvetype.Exit {
	var exits []*helvetype.Exit
	for _, e := range []*deploymentRevision{d.now, d.former} {
		if e != nil {
			exits = append(exits, e.lastExit)
			for _, l := range e.openPlaces {
				exits = append(exits, l.exit)
			}
		}
	}
	for _, u := range d.replicas {
		exits = append(exits, u.before.exit)
	}
	i := slices.IndexFunc(exits, func(x *helvetype.Exit) bool { return x != nil && x.Replica == replica })
	if i < 0 {
		return nil
	}
	return exits[i]
}

func (d *deployment) object(replica string) helvetype.Object {
	return helvetype.Object{Kind: helvetype.KindReplica, App: d.app.name, Deployment: d.name, Replica: replica}
}
