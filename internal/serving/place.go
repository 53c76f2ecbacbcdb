package serving

import (
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/router"
)

// Place is the place in a deployment's queue of a call that its caller runs itself, as a function call, when it has a slot. It holds no
// goroutine. For example, at a replica with one slot that is taken, ten calls of Method.Remote are ten places; the end of the running
// call gives its slot to the first of them, whose goroutine begins then.
//
// A call that runs elsewhere has a [Flight] instead, which goes on after the queue: it starts the call, and queues it again when it was
// not started.
type Place struct {
	dep    *Deployment
	info   *call.Info
	to     Placed
	ticket router.Ticket
	origin string
	since  int64 // when it began to wait, by call.Now

	mu     sync.Mutex
	left   bool        // true once the call has a slot, has failed or was cancelled
	report *time.Timer // of a cycle
}

// Placed is a caller that has a place. One of its methods is called, once, on the goroutine that frees a slot or ends the wait, and must not
// block.
type Placed interface {
	// Assigned gives the call a slot of r. The call releases it at r.Gate().
	Assigned(r Replica)
	// Failed says that the call will never get a slot, and why.
	Failed(cause *call.Error)
}

// NewPlace makes a place, of a caller that has asked for a free slot in vain. The caller may cancel it from now on.
func (d *Deployment) NewPlace(info *call.Info, to Placed) *Place {
	return &Place{dep: d, info: info, to: to}
}

// Enter joins the queue of the origin. The end of the wait is told to the caller's Assigned or Failed, perhaps before Enter returns, and
// at most once: a place that is cancelled tells nothing. The call's info must not change until then.
func (p *Place) Enter(origin string) {
	p.origin, p.since = origin, call.Now()
	if e := p.dep.refuses(p.info); e != nil {
		p.Failed(nil, e)
		return
	}
	p.dep.Router.Submit(nil, &p.ticket, origin, p.info, p)
	p.dep.watchQueue()
	p.mu.Lock()
	left, info := p.left, call.Info{}
	if !left {
		info = *p.info // a copy: a slot that comes meanwhile writes its replica there
	}
	p.mu.Unlock()
	switch {
	case left:
		p.dep.Router.Cancel(&p.ticket) // if it was cancelled on its way into the queue; else it is no longer there
	case info.Above != nil:
		p.suspect(&info)
	}
}

// Assigned passes the slot on.
func (p *Place) Assigned(b *call.Batch, r router.Replica) {
	if p.leave() {
		p.dep.waited(p.info, p.origin, p.since, nil)
		p.dep.callers.Waited(instance.CallerOf(p.info), time.Duration(call.Now()-p.since))
		p.to.Assigned(replicaOf(r))
	} else {
		r.Gate().Release(b)
	}
}

// Failed passes the failure on.
func (p *Place) Failed(_ *call.Batch, cause *call.Error) {
	if p.leave() {
		p.dep.waited(p.info, p.origin, p.since, cause)
		p.to.Failed(cause)
	}
}

// Cancel gives the place up. It does nothing to a call that has left the queue.
func (p *Place) Cancel(_ *call.Batch, cause error) {
	if p.leave() {
		p.dep.waited(p.info, p.origin, p.since, call.FromCause(cause))
		p.dep.Router.Cancel(&p.ticket) // false: a slot is on its way, and Assigned gives it back
	}
}

// Explain adds to the failure of a call that is being cancelled why no replica has taken it, if that is known.
func (p *Place) Explain(e *call.Error) *call.Error {
	p.mu.Lock()
	left := p.left
	p.mu.Unlock()
	if left {
		return e
	}
	return p.dep.explain(e)
}

// leave reports whether the place was still waiting.
func (p *Place) leave() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left {
		return false
	}
	p.left = true
	if p.report != nil {
		p.report.Stop()
	}
	return true
}

// suspect fails a call that waits for its own ancestors without hope, and reports a cycle that may end.
func (p *Place) suspect(info *call.Info) {
	switch cycle, hopeless := p.dep.cycle(info); {
	case hopeless:
		if p.leave() {
			p.dep.Router.Cancel(&p.ticket)
			p.dep.waited(p.info, p.origin, p.since, cycle)
			p.to.Failed(cycle)
		}
	case cycle != nil:
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.left {
			p.report = p.dep.reportLater(cycle)
		}
	}
}
