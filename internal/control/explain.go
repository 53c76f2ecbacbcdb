package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/why"
)

// Explain says why an object is as it is; with a revision that is not 0, what has become of that revision of an application.
func (o *Operator) Explain(ctx context.Context, of helvetype.Object, revision int) (e helvetype.Explanation, err error) {
	if revision != 0 {
		return o.explainRevision(ctx, of.App, revision)
	}
	if of = kindOf(of); of.App == "" {
		return e, &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: "the name of an application is missing", Next: "helve status lists the applications"}
	}
	s := o.set.Node.Status()
	e, ok := o.explain(of, s, o.load, o.linked())
	if ok {
		return e, nil
	}
	if a, there := s.Applications[of.App]; !there || of.Kind != helvetype.KindReplica {
		return e, o.absent(of.App, of.Deployment)
	} else if _, has := a.Deployments[of.Deployment]; !has {
		return e, o.absent(of.App, of.Deployment)
	}
	return e, &helvetype.OperationError{
		Code: helvetype.CodeNotFound, Message: fmt.Sprintf("deployment %s of application %s has no replica %q, and had none that the events know", of.Deployment, of.App, of.Replica),
		Next: "helve status lists the replicas",
	}
}

// linked gives the calls of the node, which an answer asks for once at most.
func (o *Operator) linked() func() helvetype.CallList {
	return sync.OnceValue(func() helvetype.CallList {
		calls := o.set.Node.Calls(helvetype.Object{}, callsMax)
		why.Link(&calls, calls)
		return calls
	})
}

func (o *Operator) explain(of helvetype.Object, s helvetype.Status, load func(string, helvetype.ApplicationStatus) why.Load, linked func() helvetype.CallList) (e helvetype.Explanation, ok bool) {
	if e, ok = why.Explain(of, s, o.set.Events, time.Now()); ok {
		if a, there := s.Applications[of.App]; there {
			why.Measure(&e, a, load(of.App, a))
			if busy(a) {
				why.Held(&e, a, linked().Calls, time.Now())
			}
		}
	}
	return e, ok
}

// callsMax is how many calls that wait for a slot of a deployment an answer looks at.
const callsMax = 1000

// busy says that calls wait or run.
func busy(a helvetype.ApplicationStatus) bool {
	for _, d := range a.Deployments {
		if d.Calls.Queued+d.Calls.Running > 0 {
			return true
		}
	}
	return false
}

// Overview says what is wrong in the node now.
func (o *Operator) Overview(context.Context) (helvetype.Overview, error) {
	s := o.set.Node.Status()
	maps.DeleteFunc(s.Applications, func(app string, _ helvetype.ApplicationStatus) bool { return strings.HasPrefix(app, spec.HiddenApps) })
	linked, left := o.linked(), 0
	if o.set.Trace != nil {
		left = o.set.Trace.GivenUp(time.Now().Add(-time.Minute))
	}
	load := func(app string, a helvetype.ApplicationStatus) why.Load {
		return o.load(app, a).Lasting(app, a, o.set.Events, time.Now())
	}
	return why.Overview(s, func(app string, s helvetype.Status) helvetype.Explanation {
		e, _ := o.explain(kindOf(helvetype.Object{App: app}), s, load, linked)
		return e
	}, left, time.Now()), nil
}

// slowMax is how many slow requests an answer looks at.
const slowMax = 200

// load is the speed of an application as it is now, in the last minutes.
func (o *Operator) load(app string, a helvetype.ApplicationStatus) (l why.Load) {
	since, ok := why.LoadFrom(a, time.Now())
	if o.set.Trace == nil || !ok {
		return l
	}
	l.Requests, l.SlowFrom = o.set.Trace.Slow(app, since, slowMax), o.set.Trace.SlowFrom()
	for _, x := range o.set.Trace.Latencies(app, since) {
		l.Latencies = append(l.Latencies, why.Latency(x))
	}
	for _, x := range o.set.Trace.Stalls(app, since) {
		l.Stalls = append(l.Stalls, why.Stall{Deployment: x.Deployment, Replica: x.Replica, Number: x.Number, Longest: x.Longest, Place: x.Place, Request: x.Request})
	}
	return l.Present(app, a)
}

// kindOf is the object with its kind, which follows from the names that it has.
func kindOf(of helvetype.Object) helvetype.Object {
	switch {
	case of.Replica != "":
		of.Kind = helvetype.KindReplica
	case of.Deployment != "":
		of.Kind = helvetype.KindDeployment
	default:
		of.Kind = helvetype.KindApplication
	}
	return of
}

func (o *Operator) explainRevision(ctx context.Context, app string, revision int) (e helvetype.Explanation, err error) {
	h, err := o.History(ctx, app)
	if err != nil {
		return e, err
	}
	i := slices.IndexFunc(h.Revisions, func(r helvetype.RevisionEntry) bool { return r.Number == revision })
	if i < 0 {
		return e, &helvetype.OperationError{
			Code: helvetype.CodeNotFound, Message: fmt.Sprintf("application %s has no revision %d, or does not keep it any more", app, revision), Next: "helve history " + app + " lists the revisions",
		}
	}
	return why.Revision(app, h.Revisions[i], o.set.Events), nil
}
