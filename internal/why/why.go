// Package why answers the question why an application, a deployment, a replica or a revision is as it is: in one sentence, with the events that led there, and
// with the next attempt. It is pure: it reads a status and the events of a node.
//
// The events of a node name their causes, so an answer is a walk. For example, the application shop is UNHEALTHY. Its last event says so and names that of its
// deployment Ranker as its cause; the event of Ranker names that of the replica Ranker#2, which has died and has no cause. The sentence says that Ranker is
// the worst deployment, and that it began with the death of Ranker#2; the timeline has the three events, the oldest first, among the other recent events of shop.
package why

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Events are the events that a node keeps.
type Events interface {
	// History is the newest events of an object, the oldest first.
	History(o helvetype.Object) []helvetype.Event
	// Find is the event with the id. false: it is not kept any more.
	Find(id uint64) (helvetype.Event, bool)
}

// timelineMax is the largest number of events of an answer.
const timelineMax = 30

// Explain says why an application, a deployment or a replica is as it is. false: neither the status nor the events know the object.
func Explain(of helvetype.Object, s helvetype.Status, events Events) (e helvetype.Explanation, ok bool) {
	own := events.History(of)
	e = helvetype.Explanation{Object: of, Timeline: timeline(own, events)}
	app, there := s.Applications[of.App]
	d, has := app.Deployments[of.Deployment]
	switch {
	case of.Kind == helvetype.KindApplication && there:
		e.Sentence, e.Next = application(of, app)
		if app.Status != helvetype.ApplicationRunning {
			e.Sentence += began(own, events)
		}
	case of.Kind == helvetype.KindDeployment && has:
		e.Sentence, e.Next = deployment(of, d), step(d.Next, d.NextAt)
		if d.Status != helvetype.DeploymentHealthy {
			e.Sentence += began(own, events)
		}
	case of.Kind == helvetype.KindReplica && has:
		if i := slices.IndexFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.ID == of.Replica }); i >= 0 {
			e.Sentence, e.Next = replica(of, d.Replicas[i])
			break
		}
		fallthrough
	default:
		if len(own) == 0 {
			return e, false
		}
		e.Sentence = gone(of, own, events)
		if has {
			e.Next = step(d.Next, d.NextAt)
		}
	}
	return e, true
}

// Revision says what has become of a revision of an application.
func Revision(app string, r helvetype.RevisionEntry, events Events) helvetype.Explanation {
	of, number := helvetype.Object{Kind: helvetype.KindApplication, App: app}, strconv.Itoa(r.Number)
	var own []helvetype.Event
	for _, ev := range events.History(of) {
		if slices.Contains(slices.Collect(maps.Values(ev.Inputs)), number) || strings.Contains(ev.Message, "revision "+number+" ") {
			own = append(own, ev)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "revision %d of application %s is %s", r.Number, app, map[string]string{
		"retired": "retired: it ran until another one took its place", "superseded": "superseded: another deploy came before it ran",
		"starting": "starting", "paused": "paused on its way", "running": "running", "failed": "failed: it was given up",
	}[r.State])
	if r.Reason != "" {
		b.WriteString(": " + r.Reason)
	}
	if !r.At.IsZero() {
		fmt.Fprintf(&b, "; deployed at %s", stamp(r.At))
	}
	if r.By != "" {
		b.WriteString(" by " + r.By)
	}
	if r.RollbackOf != 0 {
		fmt.Fprintf(&b, ", to go back to revision %d", r.RollbackOf)
	}
	e := helvetype.Explanation{Object: of, Sentence: b.String(), Timeline: timeline(own, events)}
	if r.State == "failed" {
		e.Next = "deploy a corrected revision"
	}
	return e
}

func application(of helvetype.Object, a helvetype.ApplicationStatus) (sentence, next string) {
	sentence = fmt.Sprintf("application %s is %s", of.App, a.Status)
	if a.Message != "" && a.FailedDeploy != nil && strings.Contains(a.Message, a.FailedDeploy.Error) {
		return sentence + failed(a), afterFailed
	}
	if a.Message != "" {
		sentence += ": " + a.Message
	} else if a.Status == helvetype.ApplicationRunning {
		sentence += fmt.Sprintf(": each of its %s has its replicas", count(len(a.Deployments), "deployment"))
	}
	if a.FailedDeploy != nil {
		return sentence + failed(a), afterFailed
	}
	for _, name := range slices.Sorted(maps.Keys(a.Deployments)) {
		if d := a.Deployments[name]; d.Next != "" && next == "" {
			next = "deployment " + name + ": " + step(d.Next, d.NextAt)
		}
	}
	if r := a.Rollout; r != nil && r.State == "paused" {
		next = fmt.Sprintf("the rollout of revision %d is paused: helve resume %s goes on with it; helve rollback %s, or another deploy, ends it", r.To, of.App, of.App)
	}
	return sentence, next
}

// afterFailed is the next step after a deploy that has changed nothing.
const afterFailed = "correct the code or the file, and deploy it again"

// failed is the part of a sentence about the last deploy of an application, which has changed nothing.
func failed(a helvetype.ApplicationStatus) string {
	f := a.FailedDeploy
	text := fmt.Sprintf(": the last deploy, of source %s at %s", f.Source, stamp(f.At))
	if f.By != "" {
		text += " by " + f.By
	}
	text += ", has failed"
	if len(a.Deployments) > 0 {
		text += ", and the application serves on as it was"
	}
	return text + ": " + strings.TrimSpace(f.Error)
}

func deployment(of helvetype.Object, d helvetype.DeploymentStatus) string {
	sentence := fmt.Sprintf("deployment %s is %s (%s): %d of %s get calls", of, d.Status, d.Trigger, d.Ready, count(d.Wanted, "replica"))
	if d.Message != "" {
		sentence += "; " + d.Message
	}
	if d.FirstFailure != nil && d.Failures > 1 && d.FirstFailure.Error != d.Message {
		sentence += fmt.Sprintf("; the first of %d failures, of replica %s at %s: %s", d.Failures, d.FirstFailure.Replica, stamp(d.FirstFailure.At), d.FirstFailure.Error)
	}
	return sentence
}

func replica(of helvetype.Object, r helvetype.ReplicaStatus) (sentence, next string) {
	sentence = fmt.Sprintf("replica %s is %s since %s", of, r.State, stamp(r.StartedAt))
	switch {
	case r.Wait != nil:
		sentence += fmt.Sprintf(" and waits for %s since %s", r.Wait.For, stamp(r.Wait.Since))
	case r.NotReady != nil && r.NotReady.Kept != "":
		sentence += fmt.Sprintf(" and is kept, %s: it gets calls although it is not ready since %s: %s", r.NotReady.Kept, stamp(r.NotReady.Since), r.NotReady.Reason)
		next = step(r.NotReady.Next, r.NotReady.NextAt)
	case r.NotReady != nil:
		sentence += fmt.Sprintf(" and gets no calls since %s: %s", stamp(r.NotReady.Since), r.NotReady.Reason)
		next = step(r.NotReady.Next, r.NotReady.NextAt)
	case r.Ejected != nil:
		sentence += fmt.Sprintf(" and is ejected since %s: %s", stamp(r.Ejected.Since), r.Ejected.Reason)
		next = step(r.Ejected.Next, r.Ejected.NextAt)
	case r.Unresponsive != nil:
		sentence += ", gets calls, and has not answered since " + stamp(r.Unresponsive.Since)
	case r.Ready:
		sentence += " and gets calls"
	}
	if r.LastExit != nil {
		sentence += fmt.Sprintf("; it is in the place of %s, which ended at %s: %s", r.LastExit.Replica, stamp(r.LastExit.At), r.LastExit.Reason)
	}
	return sentence, next
}

// gone explains an object that is not there any more.
func gone(of helvetype.Object, own []helvetype.Event, events Events) string {
	last := own[len(own)-1]
	sentence := fmt.Sprintf("%s %s is gone since %s", of.Kind, of, stamp(last.Time))
	if last.To != "" { // its end has left the events
		sentence = fmt.Sprintf("%s %s is not there any more; its last event, at %s, is %s", of.Kind, of, stamp(last.Time), last.Reason)
	} else if last.Reason != "" {
		sentence += " (" + last.Reason + ")"
	}
	if last.Message != "" {
		sentence += ": " + last.Message
	}
	return sentence + began(own, events)
}

// began names the first event of the chain that led to the last event of an object, if that is an event of another object.
func began(own []helvetype.Event, events Events) string {
	if len(own) == 0 {
		return ""
	}
	last := own[len(own)-1]
	first := last
	for range timelineMax {
		cause, ok := events.Find(first.Cause)
		if !ok {
			break
		}
		first = cause
	}
	if first.Object == last.Object {
		return ""
	}
	text := fmt.Sprintf(". It began at %s with %s %s: %s", stamp(first.Time), first.Object.Kind, first.Object, cmp.Or(first.Reason, "changed"))
	if first.Message != "" && !strings.Contains(last.Message, first.Message) {
		text += ": " + first.Message
	}
	return text
}

// timeline has the events of an object, and the events that caused them, in the order in which they happened.
func timeline(own []helvetype.Event, events Events) []helvetype.Event {
	all := map[uint64]helvetype.Event{}
	for _, ev := range slices.Backward(own) {
		for ok := true; ok && len(all) < timelineMax; ev, ok = events.Find(ev.Cause) {
			if _, known := all[ev.ID]; known {
				break
			}
			all[ev.ID] = ev
		}
	}
	list := make([]helvetype.Event, 0, len(all))
	for _, id := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[id])
	}
	return list
}

// Next is the next step of a deployment, and its time, zero if it has none. s.NextAt is the time of the next start, as far as one waits after failures.
func Next(s *helvetype.DeploymentStatus) (text string, at time.Time) {
	starting, missing := 0, s.Wanted-s.Ready
	var out *helvetype.Condition
	for _, r := range s.Replicas {
		if r.State == helvetype.ReplicaStarting || r.State == helvetype.ReplicaRecovering {
			starting++
		}
		if r.Ready && r.NotReady != nil { // it gets calls as the last one
			missing++
		}
		for _, c := range []*helvetype.Condition{r.NotReady, r.Ejected} {
			if c != nil && (out == nil || !c.NextAt.IsZero() && c.NextAt.Before(out.NextAt)) {
				out = c
			}
		}
	}
	switch {
	case s.Status == helvetype.DeploymentDeployFailed && s.Ready > 0:
		return "no more attempt: the form before serves; deploy a corrected revision", at
	case s.Status == helvetype.DeploymentDeployFailed:
		return "no more attempt: deploy a corrected revision, or roll back", at
	case s.Trigger == helvetype.TriggerDeleting || missing <= 0:
		return "", at
	case !s.NextAt.IsZero():
		return "the start of " + count(max(missing-starting, 1), "replica"), s.NextAt
	case starting > 0:
		return count(starting, "replica") + " in its start", at
	case out != nil:
		return out.Next, out.NextAt
	}
	return "", at
}

func step(text string, at time.Time) string {
	if text != "" && !at.IsZero() {
		text += ", at " + stamp(at)
	}
	return text
}

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
