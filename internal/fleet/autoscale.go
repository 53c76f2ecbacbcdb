package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/policy"
	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/router"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
)

// Autoscaler is the part of the node that sets the numbers of replicas of deployments that follow their load: package scaler. It is told of changes, and describes what it does.
type Autoscaler interface {
	// Wake has it look at its deployments now. It may be called with or without Fleet.Mu.
	Wake()
	// LoadPolicies loads custom policies of an application to deploy, in processes of their own, and says which cannot be loaded: see [policy.Load].
	LoadPolicies(ctx context.Context, all []policy.Source) error
	// RenumberedLocked tells it of a change of the number of a deployment that it has not decided.
	RenumberedLocked(d *Deployment, c helvetype.ScalingDecision)
	// DescribeLocked is its view of a deployment for status and metrics; nil for one that it does not scale.
	DescribeLocked(d *Deployment) *helvetype.Autoscaling
}

// Scaled is a deployment whose number of replicas follows its load.
type Scaled struct {
	*Deployment
	App, Name string
	Serving   *serving.Deployment
	Config    json.RawMessage // its autoscaling_config
	Wanted    Number          // that it has now
	Capacity  *float64        // the target capacity in percent; nil for 100
	Rising    bool            // Capacity is above the one before it
	Facts     autoscale.Facts // but for Least and Most, which the config says, and Ready
	HasPolicy bool            // a custom one: Policy, which is asked with the ids of the replicas that run
	Policy    policy.Source
	Running   []string
	// Unready are the replicas that run and get no calls, because their readiness check fails or because they are ejected. Their calls count.
	Unready    []router.Replica
	Recovering int // replicas that are being taken over from the node before
}

// AutoscaledLocked are the deployments whose numbers of replicas follow their load, for range.
func (f *Fleet) AutoscaledLocked(yield func(*Deployment) bool) {
	if f.Shut || f.HandedOver {
		return
	}
	for _, a := range f.Apps {
		if a.EndingLocked() || a.Failure != nil {
			continue
		}
		for _, d := range a.Deployments {
			if d.followsLoadLocked() && !yield(d) {
				return
			}
		}
	}
}

// ScaledLocked is the deployment as an autoscaler sees it.
func (d *Deployment) ScaledLocked() Scaled {
	s := Scaled{
		Deployment: d, App: d.App.Name, Name: d.Name, Serving: d.Serving, Config: d.Now.Definition.Options.AutoscalingConfig, Wanted: d.Asked, Capacity: d.App.fleet.Capacity, Rising: d.App.fleet.rising,
		Facts: autoscale.Facts{Target: d.Wanted, StartTime: d.StartTook},
	}
	s.Policy, s.HasPolicy = d.policyLocked()
	waiting := (*Replica)(nil)
	if !s.HasPolicy && len(d.Replicas) == len(d.Serving.Router.Replicas()) { // all of them get calls, and none starts
		s.Facts.HoldUp, s.Facts.HoldDown = d.holdsLocked(nil)
		return s
	}
	for _, r := range d.Replicas {
		switch r.State {
		case helvetype.ReplicaRunning:
			if s.HasPolicy {
				s.Running = append(s.Running, r.ID)
			}
			if !r.TakesLocked() {
				s.Unready = append(s.Unready, r.Running)
			}
		case helvetype.ReplicaStarting, helvetype.ReplicaRecovering:
			if s.Facts.Starting++; r.State == helvetype.ReplicaRecovering {
				s.Recovering++
			}
			if r.Wait != nil && r.Wait.For == WaitsForRoom && (waiting == nil || r.ID < waiting.ID) {
				waiting = r
			}
		}
	}
	s.Facts.HoldUp, s.Facts.HoldDown = d.holdsLocked(waiting)
	return s
}

// BoundsLocked are the bounds of the number of replicas by an autoscaling_config, under the target capacity of the node.
func (d *Deployment) BoundsLocked(c autoscale.Config) (least, most int) {
	return autoscale.Bounds(c, d.App.fleet.Capacity, d.App.fleet.rising)
}

// WaitsForRoom is the reason of a start that waits for its part of the node: see package room.
const WaitsForRoom = states.RoomOnNode

// holdsLocked says why the number of replicas of a deployment must not grow, or shrink, now; "" if it may. waiting is a replica that waits for a place; nil for none. Each rule has an example:
//
//   - A rollout goes from revision 2 to 3, and the load falls from 8 replicas to 2: the 8 stay until the rollout is over, because new replicas take the places of old ones. The load
//     rises from 8 to 12: 4 more start. A rollout that is paused is the same. While a replica of the deployment waits for room on the node, the number may fall: 3 old replicas hold 3 CPUs of 3, a
//     new one waits for 2, and without load 2 of the old ones make room for it.
//   - An application is deployed for the first time, or started again by the next node, with 4 replicas, and has no load yet: the 4 stay until all are ready.
//   - The node drains: nothing changes any more.
//   - Replicas of the deployment fail to start: no more of them are asked for, and the queue grows. When one is ready the number follows the load again.
//   - A replica waits for a GPU: another one would wait too. One that waits for pip, or for its constructor, has its place: more may start beside it.
func (d *Deployment) holdsLocked(waiting *Replica) (up, down string) {
	switch a := d.App; {
	case a.fleet.Draining:
		return "the node drains", "the node drains"
	case a.Change != nil && !a.Change.WatchesOnly() && !a.Change.Settled() && a.Change.Held() != "":
		down = "a rollout is paused"
	case a.Previous != nil || a.Change != nil && !a.Change.WatchesOnly() && !a.Change.Settled():
		if waiting == nil {
			down = "a rollout is under way"
		}
	case a.Own == helvetype.ApplicationDeploying && a.Current.Def.Restored:
		down = "the application is being started again"
	case a.Own == helvetype.ApplicationDeploying:
		down = "the application is being deployed"
	}
	switch n := d.Failures.Number(); {
	case n > 0 && len(d.Replicas) < d.Wanted || d.GaveUp:
		up = "replicas fail to start"
	case waiting != nil:
		up = fmt.Sprintf("replica %s waits for %s", waiting.ID, waiting.Wait.For)
	}
	return up, down
}

// ScaleByLoadLocked changes the number of replicas of a deployment to one that the autoscaler has decided. It holds at once; the record is written after that ([Deployment.NoteWrittenLocked]).
// The decision is an event, which causes those of the change.
func (d *Deployment) ScaleByLoadLocked(s store.Scale, inputs map[string]string) {
	d.decided, d.App.Unsaved = s, true
	d.scaleLocked(NumberOf(s), func(before int) { d.Causes.Decided(d.noteNumberLocked(before, s.Replicas, s.Reason, 0, inputs)) })
}

// NoteWrittenLocked notes that the store has the record of the autoscaler. The number of the deployment may be a newer one.
func (d *Deployment) NoteWrittenLocked(s records.Scale) {
	d.App.fleet.Scales.Set(d.App.Name, d.Name, s)
	d.App.Unsaved = true
}

// FollowsLoadLocked says that the autoscaler sets the number of the deployment, and may write its record: until the application is deleted, or the next node has it. A node that ends writes it too.
func (d *Deployment) FollowsLoadLocked() bool {
	f, a := d.App.fleet, d.App
	return !f.HandedOver && f.Apps[a.Name] == a && !a.EndingLocked() && a.Failure == nil && a.Deployments[d.Name] == d && d.followsLoadLocked()
}

func (d *Deployment) followsLoadLocked() bool {
	return d.Now.Definition.Options.Autoscaled() && !d.Dropped && !d.Over
}

// NoteAutoscaling records a fact about the autoscaling of a deployment that changes no number. For example, its policy fails.
func (d *Deployment) NoteAutoscalingLocked(reason, message string, inputs map[string]string) {
	d.App.fleet.Journal.NoteWith(d.Object(), string(d.Shown.State), reason, message, 0, inputs)
}

// MemoryLocked is what the record of the number says about the deployment: the number, its author and reason, and the memory of the autoscaler.
func (d *Deployment) MemoryLocked() store.Scale { return d.scaleRecordLocked() }

// ScaleInputs are the numbers of a decision, for its event.
func ScaleInputs(d autoscale.Decision) map[string]string {
	in := d.Inputs
	all := map[string]string{
		"rule": string(d.Rule), "queued": strconv.Itoa(in.Queued), "running": strconv.Itoa(in.Running), "calls": short(in.Calls), "target_ongoing_requests": short(in.Target),
		"from": strconv.Itoa(in.Replicas), "to": strconv.Itoa(d.Replicas), "desired": strconv.Itoa(d.Desired), "ready": strconv.Itoa(in.Ready),
		"least": strconv.Itoa(in.Least), "most": strconv.Itoa(in.Most),
	}
	if in.Window > 0 {
		all["window_s"] = short(in.Window.Seconds())
	}
	if in.Raw != nil {
		all["policy"] = short(*in.Raw)
	}
	if in.Capacity != nil {
		all["target_capacity"] = short(*in.Capacity)
	}
	if d.Blocked != "" {
		all["blocked"] = d.Blocked
	}
	return all
}

// short is a number with two digits behind the point at most.
func short(x float64) string {
	const digits = 100
	return strconv.FormatFloat(float64(int64(x*digits+0.5))/digits, 'f', -1, 64)
}

// NoteStartedLocked notes how long the start of a replica took.
func (d *Deployment) NoteStartedLocked(took time.Duration) {
	d.StartTook = took
	d.Serving.Lifecycle.Startup.Observe(took)
}

// NoteNumbers takes the numbers that a replica has reported for autoscaling policies, or its failure, which the log says when it is another one.
func (r *Replica) NoteNumbers(numbers map[string]float64, err error) {
	d := r.Dep
	if err == nil {
		r.numbersFailed.Store("")
		d.App.fleet.Mu.Lock()
		defer d.App.fleet.Mu.Unlock()
		if d.Replicas[r.ID] == r { // else they would stay for ever
			d.Numbers.Put(r.ID, time.Now(), numbers)
		}
		return
	}
	name := exceptionName(err)
	d.Serving.Lifecycle.AutoscalingFailed(name)
	if before, _ := r.numbersFailed.Swap(name).(string); before != name {
		d.App.fleet.Log.Warn("a replica's numbers for autoscaling policies", "app", d.App.Name, "deployment", d.Name, "replica", r.ID, "error", err)
	}
}

// exceptionName is the name of the user's exception, or of the reason for which there was no answer.
func exceptionName(err error) string {
	switch e := call.ErrorIn(err); {
	case e != nil && e.Type != "":
		return e.Type
	case errors.Is(err, context.DeadlineExceeded) || e != nil && e.Reason == helvetype.ReasonDeadline:
		return "TimeoutError"
	}
	return "Exception"
}
