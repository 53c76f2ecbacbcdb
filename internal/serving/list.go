package serving

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/router"
)

// listing makes calls that an operator reads.
type listing struct {
	now  time.Time
	mono int64 // now, by call.Now
}

func (l listing) call(i *call.Info, since int64) helvetype.Call {
	trace := i.TraceID()
	c := helvetype.Call{ID: hexID(i.Call), Parent: hexID(i.Parent), RequestID: i.Request.String(), TraceID: hex.EncodeToString(trace[:]), Since: l.at(since)}
	if p := i.Place; p != nil {
		c.App, c.Deployment, c.Method = p.App, p.Deployment, p.Method
	}
	return c
}

// at is a time by call.Now, as a time of day.
func (l listing) at(mono int64) time.Time { return l.now.Add(-time.Duration(l.mono - mono)) }

// inOrBehind tells a call that waits at a deployment in a circle, and whose callers hold slots of the circle, from one that only waits behind it. For example, five requests of Store wait for Store by their calls of
// Items, and a sixth request waits for a slot of Store: the sixth is behind the circle, and closes nothing.
func (d *Deployment) inOrBehind(c *call.Info) string {
	all := []*Deployment{d}
	if d.All != nil {
		all = d.All()
	}
	for i := c.Above; i != nil; i = i.Above {
		if slices.ContainsFunc(all, func(o *Deployment) bool { return o.App == i.App && o.Name == i.Deployment && o.Cycle() != "" }) {
			return ", in a circle of calls"
		}
	}
	return ", behind a circle of calls"
}

func hexID(id uint64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", id)
}

// NoWaits is the limit of [Deployment.Calls] for a list without calls that wait for a slot, which does not count them either.
const NoWaits = -1

// Calls lists calls of the deployment: those that wait for a slot of it, up to limit, and for each of replicas those that wait in its control
// queue and those that run. The result unlisted counts the others: waiting calls over the limit, and running calls that are on no list (see
// [helvetype.CallList]). It holds up the calls for the time of copying.
func (d *Deployment) Calls(replicas []Replica, limit int) (calls []helvetype.Call, unlisted int) {
	l := listing{time.Now(), call.Now()}
	var waiting []router.WaitingCall
	more := 0
	if limit != NoWaits {
		waiting, more = d.Router.Waiting(limit)
	}
	for _, w := range waiting {
		c := l.call(&w.Info, w.Since)
		c.Origin, c.State, c.WaitsFor = w.Origin, helvetype.CallWaiting, "a slot of "+d.App+"/"+d.Name
		if len(d.Router.Replicas()) == 0 {
			c.WaitsFor = "the first replica of " + d.App + "/" + d.Name
		}
		if cycle, _ := d.cycle(&w.Info); cycle != nil {
			c.WaitsFor += ", which only its own callers hold: " + w.Info.Chain()
		} else if d.Cycle() != "" {
			c.WaitsFor += d.inOrBehind(&w.Info)
		}
		calls = append(calls, c)
	}
	unlisted = more
	for _, r := range replicas {
		control := r.base().Control()
		control.mu.Lock()
		for _, e := range control.queue {
			c := l.call(&e.call.Info, e.since)
			c.Origin, c.State, c.Replica, c.WaitsFor = e.call.Origin, helvetype.CallWaiting, r.ID(), "the control queue of "+r.ID()
			calls = append(calls, c)
		}
		broadcasts := 0
		if control.now != nil {
			broadcasts = 1
		}
		control.mu.Unlock()
		running := runningAt(r)
		for _, k := range running {
			c := l.call(&call.Info{Request: k.Request, Trace: k.Trace, Call: k.Call, Parent: k.Parent, Place: k.Place}, k.Since)
			c.State, c.Replica, c.Stream = helvetype.CallRunning, r.ID(), k.Streams
			if k.Unread != 0 {
				c.UnreadSince = l.at(k.Unread)
			}
			calls = append(calls, c)
		}
		unlisted += max(r.base().Running()+broadcasts-len(running), 0)
	}
	return calls, unlisted
}
