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
	// Replicas is the newest events of the replicas of a deployment, also of replicas that are gone, the oldest first.
	Replicas(app, deployment string) []helvetype.Event
}

// timelineMax is the largest number of events of an answer.
const timelineMax = 30

// recently is how long after its end a replica is named in the answer about an application, or a deployment, that has recovered since.
const recently = 15 * time.Minute

// Explain says why an application, a deployment or a replica is as it is now. false: neither the status nor the events know the object.
func Explain(of helvetype.Object, s helvetype.Status, events Events, now time.Time) (e helvetype.Explanation, ok bool) {
	own := events.History(of)
	e = helvetype.Explanation{Object: of, Timeline: timeline(own, events)}
	app, there := s.Applications[of.App]
	d, has := app.Deployments[of.Deployment]
	switch {
	case of.Kind == helvetype.KindApplication && there:
		e.Sentence, e.Next = application(of, app, s.TargetCapacity)
		if app.FailedDeploy == nil && backForErrors(app, own) {
			text := "its failed calls: " + failedList + " " + of.App
			if e.Next != "" {
				text += "; " + e.Next
			}
			e.Next = text
		}
		if app.Status != helvetype.ApplicationRunning {
			e.Sentence += began(own, events, app)
			e.Detail = details(app.Message)
			if path := worst(app); e.Detail == "" && path != nil {
				e.Detail = details(app.Deployments[path[len(path)-1]].Message)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(app.Deployments)) {
			together(&e, events, of.App, name, now)
		}
		for _, name := range slices.Sorted(maps.Keys(app.Deployments)) {
			if showsTrouble(app) { // else its message has it, but for a policy
				troubled(&e, of.App, name, app.Deployments[name], passes(app, name), s.TargetCapacity, now)
			} else {
				failingPolicy(&e, of.App, name, app.Deployments[name])
			}
		}
	case of.Kind == helvetype.KindDeployment && has:
		e.Sentence, e.Next, e.Detail = deployment(of, d), nextOf("", of.App, of.Deployment, d), details(d.Message)
		troubled(&e, of.App, of.Deployment, d, passes(app, of.Deployment), s.TargetCapacity, now)
		if path := chain(app, of.Deployment); len(path) > 1 {
			root := app.Deployments[path[len(path)-1]]
			e.Sentence += "; " + waitsFor(app, path, "")
			e.Next, e.Detail = nextOf("deployment "+path[len(path)-1]+": ", of.App, path[len(path)-1], root), details(root.Message)
		} else if text, next := rollout(of.App, app); text != "" && d.Status == helvetype.DeploymentUpdating {
			e.Sentence += "; " + text
			e.Next = cmp.Or(next, e.Next)
		}
		if d.Status != helvetype.DeploymentHealthy {
			e.Sentence += began(own, events, app)
		}
		together(&e, events, of.App, of.Deployment, now)
	case of.Kind == helvetype.KindReplica && has:
		if i := slices.IndexFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.ID == of.Replica }); i >= 0 {
			e.Sentence, e.Next, e.Detail = replica(of, d.Replicas[i], own)
			if d.Replicas[i].State == helvetype.ReplicaStopping {
				e.Sentence += ": " + finishing(d, of.Replica)
			}
			break
		}
		fallthrough
	default:
		if len(own) == 0 {
			return e, false
		}
		e.Sentence, e.Detail = gone(of, own, events), details(ending(own).Message)
		if has {
			e.Next = step(d.Next, d.NextAt)
		}
	}
	return e, true
}

// together adds that replicas of a deployment have failed the same check at the same time. The command that comes next is about that then.
func together(e *helvetype.Explanation, events Events, app, deployment string, now time.Time) {
	if text, next := sharedCheck(events, app, deployment, now); text != "" {
		e.Sentence += "; " + text
		e.Next = next
	}
}

// showsTrouble says that the answer about an application has the trouble of its deployments beside the state of the application: while it runs, while it ends, and where the revision before serves on after a deploy that has
// failed. For example, revision 2 has failed, and the deployment Ranker of revision 1 has calls that wait for each other: the answer has both.
func showsTrouble(a helvetype.ApplicationStatus) bool {
	return a.Status == helvetype.ApplicationRunning || a.Status == helvetype.ApplicationDeleting || a.Status == helvetype.ApplicationDeployFailed && serves(a)
}

// troubled adds the trouble of a deployment that its state does not show: replicas that do not answer, calls that wait for slots, and the last replica that has ended.
// passes says that its failures of the last minute come from deployments that it uses. capacity is the target capacity of the node in percent; nil for all.
func troubled(e *helvetype.Explanation, app, name string, d helvetype.DeploymentStatus, passes bool, capacity *float64, now time.Time) {
	prefix := ""
	if e.Object.Kind == helvetype.KindApplication {
		prefix = "deployment " + name + ": "
	}
	next := func(text string) {
		if e.Next == "" || strings.HasPrefix(e.Next, failedList) {
			e.Next = text
		}
	}
	if n := d.Calls.Queued + d.Calls.Running; d.Trigger == helvetype.TriggerDeleting && n > 0 {
		e.Sentence += fmt.Sprintf("; %sits replicas end after the calls that it still has (%d)", prefix, n)
		e.Next = fmt.Sprintf("helve calls %s/%s lists the calls; graceful_shutdown_timeout_s is how long they may take", app, name)
		return
	}
	for _, r := range d.Replicas {
		if r.State == helvetype.ReplicaStopping && d.Message == "" {
			e.Sentence += "; " + prefix + finishing(d, r.ID)
			next(fmt.Sprintf("helve calls %s/%s lists its calls; graceful_shutdown_timeout_s is how long they may take", app, name))
			break
		}
	}
	for _, r := range d.Replicas {
		if r.Unresponsive != nil {
			e.Sentence += fmt.Sprintf("; %sreplica %s gets calls, and %s", prefix, r.ID, stands(r.Unresponsive))
			next(fmt.Sprintf("helve profile %s/%s/%s --stacks shows where its threads are; with max_unresponsive_s the node replaces such a replica", app, name, r.ID))
			e.Detail = cmp.Or(e.Detail, r.Unresponsive.Stacks)
			break
		}
	}
	failingPolicy(e, app, name, d)
	switch {
	case d.Cycle != "":
		e.Sentence += "; " + prefix + d.Cycle
		next(fmt.Sprintf("helve calls %s/%s lists the calls; helve restart %[1]s/%[2]s ends those that wait now, after at most graceful_shutdown_timeout_s, but the circle comes back while such requests come: its deployments need more slots, or no calls back to themselves", app, name))
	case d.Calls.Queued > 0 && d.Wanted == 0 && d.Trigger != helvetype.TriggerDeleting:
		if text, command := unserved(app, name, d, capacity); text != "" {
			e.Sentence += "; " + prefix + text
			next(command)
		}
	case d.Calls.Queued > 0 && d.Ready > 0:
		e.Sentence += fmt.Sprintf("; %s%s a slot, because the ready replicas run as many calls as max_ongoing_requests allows%s", prefix, waitFor(d.Calls.Queued), slots(d))
		next(fmt.Sprintf("%s; helve calls %s/%s lists the calls that hold the slots", more(app+"/"+name, d, false), app, name))
	}
	if m := d.LastMinute; m != nil && m.Errors > 0 && !passes && prefix != "" {
		e.Sentence += fmt.Sprintf("; %s%d of the %s of the last %.0f s"+haveFailed, prefix, m.Errors, count(int(m.Calls), "call"), m.Seconds)
	}
	if m := d.LastMinute; m != nil && m.Rejected > 0 {
		e.Sentence += fmt.Sprintf("; %s%s of the last %.0f s found a full queue (max_queued_requests) and %s rejected", prefix, count(int(m.Rejected), "call"), m.Seconds, map[bool]string{true: "was", false: "were"}[m.Rejected == 1])
		next(fmt.Sprintf("%s; max_queued_requests of %s/%s is how many calls of one caller may wait: a larger one takes longer bursts", more(app+"/"+name, d, true), app, name))
	}
	if x := d.LastExit; x != nil && now.Sub(x.At) < recently && strings.Contains(e.Sentence, brief(x.Reason)) {
		next(afterExit(app, name, x, d.Replicas))
	} else if x != nil && now.Sub(x.At) < recently {
		e.Sentence += fmt.Sprintf("; %sreplica %s ended at %s: %s", prefix, x.Replica, stamp(x.At), brief(x.Reason))
		if d.Ready >= d.Wanted {
			e.Sentence += ", and another one has taken its place"
		}
		e.Detail = cmp.Or(e.Detail, strings.Join(x.Lines, "\n"))
		next(afterExit(app, name, x, d.Replicas))
	}
	if d.Calls.Errors > 0 && e.Next == "" {
		next("helve why --failed " + app + " lists requests that have failed")
	}
}

// unserved says why calls of a deployment wait although it should have no replica; "" while its autoscaler is about to start one. For example, a file has target_capacity: 0, and a client sends three requests: they
// wait until a file with another number is deployed, or until their own limit of time.
func unserved(app, name string, d helvetype.DeploymentStatus, capacity *float64) (text, next string) {
	text = waitFor(d.Calls.Queued) + " a replica, and the deployment should have none: "
	switch {
	case capacity != nil && *capacity <= 0:
		return text + "the target capacity of the node is 0 %", "deploy a file with a target_capacity above 0; a file without it ends the capacity only if it is a whole file of the source default; a limit of time for a request or a call, or max_queued_requests, keeps calls from waiting"
	case d.Autoscaling == nil:
		return text + "its number of replicas is 0", fmt.Sprintf("helve scale %s/%s 1 starts a replica", app, name)
	case d.Autoscaling.Blocked != "":
		return text + d.Autoscaling.Reason, ""
	}
	return "", ""
}

// slots says how many calls the ready replicas of a deployment run, in parentheses; "" while replicas that stop run some of its calls too, because nothing tells how many.
func slots(d helvetype.DeploymentStatus) string {
	if slices.ContainsFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.State == helvetype.ReplicaStopping }) {
		return ""
	}
	return fmt.Sprintf(" (%d)", d.Calls.Running)
}

// afterExit is the command that comes next after the end of a replica: one that has ended for lack of memory leaves nothing to read, and its siblings have the same code.
func afterExit(app, name string, x *helvetype.Exit, replicas []helvetype.ReplicaStatus) string {
	if x.OutOfMemory || strings.Contains(x.Reason, "memory") && !strings.Contains(x.Reason, "not for lack of memory") {
		for _, r := range replicas {
			if r.State == helvetype.ReplicaRunning {
				return fmt.Sprintf("MEMORY in helve status shows whether it grows; helve profile %s/%s/%s --heap shows the lines of code that keep it", app, name, r.ID)
			}
		}
	}
	return fmt.Sprintf("helve why %s/%s/%s; helve logs %[1]s/%[2]s --replica %[3]s has its last lines", app, name, x.Replica)
}

// passes says that a deployment had failed calls in the last minute, and a deployment that it uses too: it has let their errors through. For example, Front calls Ranker, whose code raises: both have failed calls, and
// those of Ranker are the cause.
func passes(a helvetype.ApplicationStatus, name string) bool {
	d := a.Deployments[name]
	return slices.ContainsFunc(slices.Concat(d.Uses, d.DynamicUses), func(used string) bool {
		m := a.Deployments[used].LastMinute
		return used != name && m != nil && m.Errors+m.Rejected > 0
	})
}

// finishing says that a replica that stops finishes its calls. Their number is known where the deployment has no other replica with calls.
func finishing(d helvetype.DeploymentStatus, id string) string {
	text := "replica " + id + " finishes its calls"
	if alone := !slices.ContainsFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.ID != id && r.State != helvetype.ReplicaStarting }); alone {
		text = "replica " + id + " finishes " + count(d.Calls.Running, "call")
	}
	return text + " before it ends"
}

func waitFor(calls int) string {
	if calls == 1 {
		return "1 call waits for"
	}
	return fmt.Sprintf("%d calls wait for", calls)
}

// stands says how a worker does not answer.
func stands(u *helvetype.Unresponsive) string {
	text := "has not answered since " + stamp(u.Since)
	if at, ok := blockedAt(u.Stacks); ok {
		return text + ": its event loop is blocked in " + at
	}
	if state, ok := strings.CutPrefix(firstLine(u.Stacks), "State: "); ok {
		text += ": the state of its process is " + state
	}
	return text
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

// calm is the sentence of an application that runs and has no trouble. Replicas that start because the number has grown are no trouble. capacity is the target capacity of the node in percent; nil for all.
func calm(app string, a helvetype.ApplicationStatus, capacity *float64) string {
	text := fmt.Sprintf("application %s is %s: ", app, helvetype.ApplicationRunning)
	if capacity != nil && *capacity <= 0 {
		return text + "it should have no replicas, because the target capacity of the node is 0 %"
	}
	if growing := lacking(a); len(growing) > 0 {
		d := a.Deployments[growing[0]]
		return text + fmt.Sprintf("%d of %s of %s %s calls, and more start", d.Ready, count(d.Wanted, "replica"), growing[0], gets(d.Wanted))
	}
	if len(a.Deployments) == 1 {
		return text + "its deployment has its replicas"
	}
	return text + fmt.Sprintf("each of its %d deployments has its replicas", len(a.Deployments))
}

// lacking are the deployments that have fewer replicas with calls than they should have, by name.
func lacking(a helvetype.ApplicationStatus) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(a.Deployments)) {
		if d := a.Deployments[name]; d.Ready < d.Wanted {
			names = append(names, name)
		}
	}
	return names
}

// short is the sentence about an application that runs, and in which replicas do not start; "" for others. For example, an autoscaler asks for 4 replicas, and the node has two GPUs.
func short(app string, a helvetype.ApplicationStatus) string {
	for _, name := range lacking(a) {
		if d := a.Deployments[name]; d.Message != "" {
			return fmt.Sprintf("application %s is %s: %d of %s of %s %s calls: %s", app, a.Status, d.Ready, count(d.Wanted, "replica"), name, gets(d.Wanted), brief(d.Message))
		}
	}
	return ""
}

func application(of helvetype.Object, a helvetype.ApplicationStatus, capacity *float64) (sentence, next string) {
	sentence = fmt.Sprintf("application %s is %s", of.App, a.Status)
	if a.Message != "" && a.FailedDeploy != nil && strings.Contains(a.Message, a.FailedDeploy.Error) {
		return sentence + failed(a), afterFailed
	}
	if a.Message != "" {
		sentence += ": " + brief(a.Message)
	} else if a.Status == helvetype.ApplicationRunning {
		sentence = cmp.Or(short(of.App, a), calm(of.App, a, capacity))
	}
	if a.FailedDeploy != nil {
		return sentence + failed(a), afterFailed
	}
	path := worst(a)
	if path != nil {
		if text := waitsFor(a, path, sentence); text != "" {
			sentence += "; " + text
		}
		path = path[len(path)-1:]
	}
	for _, name := range append(path, slices.Sorted(maps.Keys(a.Deployments))...) {
		if d := a.Deployments[name]; d.Next != "" && next == "" {
			next = nextOf("deployment "+name+": ", of.App, name, d)
		}
	}
	if text, goesOn := rollout(of.App, a); text != "" {
		sentence += "; " + text
		next = cmp.Or(goesOn, next)
	}
	if a.Status == helvetype.ApplicationDeployFailed && a.Rollout == nil && serves(a) {
		next = cmp.Or(next, "deploy a corrected revision") + "; helve rollback " + of.App + " ends this state with the revision that serves, and starts no replica"
	}
	return sentence, next
}

// backForErrors says that the last deploy of an application goes back, or has gone back, because too many calls of its revision failed: the failed calls tell more
// than the events do. own are the events of the application. For example, revision 2 raises in one call of three, and revision 1 serves again.
func backForErrors(a helvetype.ApplicationStatus, own []helvetype.Event) bool {
	if back := a.Rollout != nil && a.Rollout.State == "rolling back"; !back && a.Status != helvetype.ApplicationDeployFailed {
		return false
	}
	for _, ev := range slices.Backward(own) {
		if ev.Reason == "rolled_back" {
			return ev.Inputs["cause"] == "error_rate"
		}
	}
	return false
}

// serves says that a replica of an application gets calls: after a deploy that went back it is one of the revision before.
func serves(a helvetype.ApplicationStatus) bool {
	for _, d := range a.Deployments {
		if d.Ready > 0 {
			return true
		}
	}
	return false
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
	return text + ": " + brief(f.Error)
}

func deployment(of helvetype.Object, d helvetype.DeploymentStatus) string {
	ready := 0 // with replicas of the revision before
	for _, r := range d.Replicas {
		if r.Ready {
			ready++
		}
	}
	sentence := fmt.Sprintf("deployment %s is %s (%s): %d of %s %s calls", of, d.Status, d.Trigger, min(max(ready, d.Ready), d.Wanted), count(d.Wanted, "replica"), gets(d.Wanted))
	if d.Message != "" {
		sentence += "; " + brief(d.Message)
	}
	sentence += minute(d.LastMinute) + scaling(d)
	if f := d.FirstFailure; f != nil && d.Failures > 1 {
		if text := brief(f.Error); !strings.Contains(sentence, text) {
			sentence += fmt.Sprintf("; the first of %d failures, of replica %s at %s: %s", d.Failures, f.Replica, stamp(f.At), text)
		} else {
			sentence += fmt.Sprintf("; %d failures since %s", d.Failures, stamp(f.At))
		}
	}
	return sentence
}

func replica(of helvetype.Object, r helvetype.ReplicaStatus, own []helvetype.Event) (sentence, next, detail string) {
	since := r.StartedAt
	for _, ev := range own {
		if ev.To == string(r.State) && ev.From != ev.To {
			since = ev.Time
		}
	}
	sentence = "replica " + of.String()
	if r.Revision > 0 {
		sentence += fmt.Sprintf(" of revision %d", r.Revision)
	}
	sentence += fmt.Sprintf(" is %s since %s", r.State, stamp(since))
	switch {
	case r.Wait != nil:
		sentence += fmt.Sprintf(" and waits for %s since %s", r.Wait.For, stamp(r.Wait.Since))
		if r.Wait.Reason != "" {
			sentence += ": " + r.Wait.Reason
			next = "the replica starts when the node has what it needs; helve status --wide shows the replicas that hold it"
		}
	case r.NotReady != nil && r.NotReady.Kept != "":
		sentence += fmt.Sprintf(" and is kept, %s: it gets calls although it is not ready since %s: %s", r.NotReady.Kept, stamp(r.NotReady.Since), brief(r.NotReady.Reason))
		next, detail = step(r.NotReady.Next, r.NotReady.NextAt), r.NotReady.Traceback
	case r.NotReady != nil:
		sentence += fmt.Sprintf(" and gets no calls since %s: %s", stamp(r.NotReady.Since), brief(r.NotReady.Reason))
		next, detail = step(r.NotReady.Next, r.NotReady.NextAt), r.NotReady.Traceback
	case r.Ejected != nil:
		sentence += fmt.Sprintf(" and is ejected since %s: %s", stamp(r.Ejected.Since), r.Ejected.Reason)
		next = step(r.Ejected.Next, r.Ejected.NextAt)
	case r.Unresponsive != nil:
		sentence += ", gets calls, and " + stands(r.Unresponsive)
		next = fmt.Sprintf("helve profile %s/%s/%s --stacks shows where its threads are; with max_unresponsive_s the node replaces such a replica", of.App, of.Deployment, r.ID)
		detail = r.Unresponsive.Stacks
	case r.Ready:
		sentence += " and gets calls"
	}
	sentence += uses(r)
	if r.LastExit != nil {
		sentence += fmt.Sprintf("; it is in the place of %s, which ended at %s: %s", r.LastExit.Replica, stamp(r.LastExit.At), brief(r.LastExit.Reason))
		detail = cmp.Or(detail, details(r.LastExit.Reason), strings.Join(r.LastExit.Lines, "\n"))
	}
	return sentence, next, detail
}

// uses says what the process of a replica uses; "" where that is not known.
func uses(r helvetype.ReplicaStatus) string {
	if r.Memory == 0 {
		return ""
	}
	process := "the process of the node, which it is in,"
	if r.PID != 0 {
		process = "its process " + strconv.Itoa(r.PID)
	}
	return fmt.Sprintf("; %s has %d MiB of memory and uses %.0f %% of a processor", process, (r.Memory+1<<19)>>20, r.CPU)
}

// minute says how many calls of a deployment the last minute had, and how long these took; "" without calls.
func minute(m *helvetype.LastMinute) string {
	if m == nil || m.Calls == 0 {
		return ""
	}
	failed := ""
	if m.Errors > 0 {
		failed = fmt.Sprintf(", of which %d have failed,", m.Errors)
	}
	return fmt.Sprintf("; the %s of the last %.0f s%s took %s on average, and 99 %% of them at most about %s", count(int(m.Calls), "call"), m.Seconds, failed, ms(m.Mean), ms(m.P99))
}

// ending is the event that tells why an object is gone. For example, the last event of a replica is stopped, and replace before it has the error of its health check.
func ending(own []helvetype.Event) helvetype.Event {
	last := own[len(own)-1]
	if last.Message != "" || last.To != "" || last.From != string(helvetype.ReplicaStopping) {
		return last
	}
	for _, ev := range slices.Backward(own) {
		if ev.From != ev.To && ev.To == string(helvetype.ReplicaStopping) {
			last.Reason, last.Message = ev.Reason, ev.Message
			break
		}
	}
	return last
}

// gone explains an object that is not there any more.
func gone(of helvetype.Object, own []helvetype.Event, events Events) string {
	last := ending(own)
	sentence := fmt.Sprintf("%s %s is gone since %s", of.Kind, of, stamp(last.Time))
	if last.To != "" { // its end has left the events
		sentence = fmt.Sprintf("%s %s is not there any more; its last event, at %s, is %s", of.Kind, of, stamp(last.Time), last.Reason)
	} else if last.Reason != "" {
		sentence += " (" + last.Reason + ")"
	}
	if last.Message != "" {
		sentence += ": " + brief(last.Message)
	}
	return sentence + began(own, events, helvetype.ApplicationStatus{})
}

// began names the first event of the chain that led to the last event of an object of an application, if that is an event of another object.
func began(own []helvetype.Event, events Events, a helvetype.ApplicationStatus) string {
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
	if first = firstFailure(begin(first, events), a); first.Object == last.Object {
		return ""
	}
	text := fmt.Sprintf(". It began at %s with %s %s: %s", stamp(first.Time), first.Object.Kind, first.Object, cmp.Or(first.Reason, "changed"))
	if first.Message != "" && !strings.Contains(last.Message, first.Message) && first.To != string(helvetype.ApplicationDeploying) {
		text += ": " + brief(first.Message)
	}
	return text
}

// begin is the event with which the state of an object began that an event has only given another message. For example, an application is DEPLOYING since 10:00, and at 10:05 its message names a replica that waits: the deploy began at 10:00.
func begin(ev helvetype.Event, events Events) helvetype.Event {
	if ev.From != ev.To {
		return ev
	}
	for _, e := range slices.Backward(events.History(ev.Object)) {
		if e.ID < ev.ID && e.From != e.To && e.To != "" {
			if e.To == ev.To && e.Reason == ev.Reason {
				return e
			}
			break
		}
	}
	return ev
}

// timeline has the events of an object, and the events that caused them, in the order in which they happened. Each fact is there once. For example, a replica of an UNHEALTHY
// deployment of an UNHEALTHY application dies: the three have an event of that with the same text, and the list has that of the replica. If the deployment becomes
// UNHEALTHY by that, its event is there without the text.
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
		ev := all[id]
		if cause, known := all[ev.Cause]; known && ev.Message != "" && strings.Contains(ev.Message, cause.Message) && cause.Message != "" {
			if ev.From == ev.To {
				continue
			}
			ev.Message = ""
		}
		list = append(list, ev)
	}
	return list
}

// The ends of the next step of a deployment that waits for starts.
const (
	inStart  = " in its start"
	inStarts = " in their starts"
)

// Next is the next step of a deployment, and its time, zero if it has none. s.NextAt is the time of the next start, as far as one waits after failures.
func Next(s *helvetype.DeploymentStatus) (text string, at time.Time) {
	starting, noRoom, missing := 0, 0, s.Wanted-s.Ready
	var out *helvetype.Condition
	for _, r := range s.Replicas {
		if r.State == helvetype.ReplicaStarting || r.State == helvetype.ReplicaRecovering {
			starting++
			if r.Wait != nil && r.Wait.Reason != "" {
				noRoom++
			}
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
	case starting > 0 && noRoom == starting:
		return "the start of " + count(starting, "replica") + " when the node has room", at
	case starting > 0:
		if starting == 1 {
			return "1 replica" + inStart, at
		}
		return count(starting, "replica") + inStarts, at
	case out != nil:
		return out.Next, out.NextAt
	}
	return "", at
}

// nextOf is the next step of a deployment, after a prefix. It is a command where the node waits for a replica in its start. For example, a constructor that does not return waits for a lock: the stacks show the line.
func nextOf(prefix, app, name string, d helvetype.DeploymentStatus) string {
	if (strings.HasSuffix(d.Next, inStart) || strings.HasSuffix(d.Next, inStarts)) && d.NextAt.IsZero() {
		for _, r := range d.Replicas {
			if r.State == helvetype.ReplicaStarting && (r.Wait == nil || r.Wait.For == "its constructor") {
				return fmt.Sprintf("helve profile %s/%s/%s --stacks shows where its start stands", app, name, r.ID)
			}
		}
	}
	return prefix + step(d.Next, d.NextAt)
}

func step(text string, at time.Time) string {
	if text != "" && !at.IsZero() {
		text += ", at " + stamp(at)
	}
	return text
}

// gets is the verb of that many replicas.
func gets(n int) string { return map[bool]string{true: "gets", false: "get"}[n == 1] }

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
