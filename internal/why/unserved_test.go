package why

import (
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// TestUnserved: calls that wait for a deployment without replicas are trouble, and the answer names the cause: the target capacity, the number that was set, or the bound of the autoscaler.
func TestUnserved(t *testing.T) {
	t.Parallel()
	waits := func(a *helvetype.Autoscaling) helvetype.DeploymentStatus {
		return helvetype.DeploymentStatus{Status: helvetype.DeploymentHealthy, Calls: helvetype.Calls{Queued: 3}, Autoscaling: a}
	}
	held := &helvetype.Autoscaling{Blocked: "the node drains", Reason: "3 calls wait, and there is no replica; held: the node drains"}
	for name, x := range map[string]struct {
		d          helvetype.DeploymentStatus
		capacity   *float64
		want, next string
	}{
		"no capacity":          {waits(&helvetype.Autoscaling{}), new(0.0), "; deployment Ranker: 3 calls wait for a replica, and the deployment should have none: the target capacity of the node is 0 %", "deploy a file with a target_capacity above 0; a file without it ends the capacity only if it is a whole file of the source default; "},
		"no replica is wanted": {waits(nil), nil, "; deployment Ranker: 3 calls wait for a replica, and the deployment should have none: its number of replicas is 0", "helve scale shop/Ranker 1 starts a replica"},
		"no capacity, no call": {helvetype.DeploymentStatus{Status: helvetype.DeploymentHealthy}, new(0.0), "", ""},
		"a hold":               {waits(held), new(50.0), "; deployment Ranker: 3 calls wait for a replica, and the deployment should have none: 3 calls wait, and there is no replica; held: the node drains", "helve why shop"},
		"a replica will start": {waits(&helvetype.Autoscaling{}), nil, "", ""},
	} {
		s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Status: helvetype.ApplicationRunning, Deployments: map[string]helvetype.DeploymentStatus{"Ranker": x.d}}}, TargetCapacity: x.capacity}
		e, _ := Explain(shop(), s, kept{}, at)
		begin := "application shop is RUNNING: its deployment has its replicas"
		if x.capacity != nil && *x.capacity == 0 {
			begin = "application shop is RUNNING: it should have no replicas, because the target capacity of the node is 0 %"
		}
		if want := begin + x.want; e.Sentence != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, e.Sentence, want)
		}
		o := Overview(s, func(string, helvetype.Status) helvetype.Explanation { return e }, 0, at)
		if x.want == "" {
			if len(o.Troubles) != 0 {
				t.Errorf("%s: %+v", name, o)
			}
			continue
		}
		if len(o.Troubles) != 1 || !strings.HasPrefix(o.Troubles[0].Next, x.next) {
			t.Errorf("%s: %+v, want next %s", name, o, x.next)
		}
	}
}

// TestReplicasThatAreShort: an application that runs, and whose new replicas wait for a resource, does not have its replicas; replicas that start after a step of the load are no trouble.
func TestReplicasThatAreShort(t *testing.T) {
	t.Parallel()
	wait := &helvetype.Wait{For: "room on the node", Since: at, Reason: "needs 1 GPU, and 0 of 2 are free"}
	starting := helvetype.ReplicaStatus{ID: "R#3", State: helvetype.ReplicaStarting}
	d := helvetype.DeploymentStatus{Status: helvetype.DeploymentUpscaling, Wanted: 4, Ready: 2, Replicas: []helvetype.ReplicaStatus{starting, starting}}
	d.Next, _ = Next(&d)
	if want := "2 replicas in their starts"; d.Next != want {
		t.Errorf("next is %q, want %q", d.Next, want)
	}
	answer := func() (helvetype.Explanation, helvetype.Overview) {
		apps := map[string]helvetype.ApplicationStatus{"shop": runsWith(d)}
		e, _ := Explain(shop(), helvetype.Status{Applications: apps}, kept{}, at)
		return e, Overview(helvetype.Status{Applications: apps}, func(string, helvetype.Status) helvetype.Explanation { return e }, 0, at)
	}
	if e, o := answer(); !strings.HasSuffix(e.Sentence, " get calls, and more start") || len(o.Troubles) != 0 {
		t.Errorf("%s\n%+v", e.Sentence, o)
	}
	for i := range d.Replicas {
		d.Replicas[i].Wait = wait
	}
	d.Message = "replica R#3 waits for room on the node: needs 1 GPU, and 0 of 2 are free"
	d.Next, _ = Next(&d)
	if want := "the start of 2 replicas when the node has room"; d.Next != want {
		t.Errorf("next is %q, want %q", d.Next, want)
	}
	if e, o := answer(); !strings.Contains(e.Sentence, "2 of 4 replicas of ") || !strings.HasSuffix(e.Sentence, " get calls: "+d.Message) || len(o.Troubles) != 1 {
		t.Errorf("%s\n%+v", e.Sentence, o)
	}
}
