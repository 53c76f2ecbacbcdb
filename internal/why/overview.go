package why

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Overview says what is wrong in a node now, the worst first. left is the number of requests of the last minute that their clients have given up. explain is the answer about an application of a
// status, which may have trouble although it runs: the status is without the effects of scaling that goes as it should. For example, of three applications one is UNHEALTHY
// without a replica that gets calls, one waits at a step of its rollout, and one runs: the first two are in the answer, in this order.
func Overview(s helvetype.Status, explain func(app string, s helvetype.Status) helvetype.Explanation, left int, now time.Time) (o helvetype.Overview) {
	type found struct {
		helvetype.Trouble
		rank int
	}
	var all []found
	calmed := settled(s, now)
	for _, name := range slices.Sorted(maps.Keys(s.Applications)) {
		a, e := calmed.Applications[name], explain(name, calmed)
		if a.Status == helvetype.ApplicationRunning && e.Sentence == calm(name, a, s.TargetCapacity) {
			continue
		}
		all = append(all, found{helvetype.Trouble{Object: e.Object, Sentence: e.Sentence, Next: cmp.Or(e.Next, "helve why "+name)}, rank(a)})
	}
	slices.SortStableFunc(all, func(x, y found) int { return cmp.Compare(x.rank, y.rank) })
	o.Troubles = make([]helvetype.Trouble, 0, len(all))
	for _, f := range all {
		o.Troubles = append(o.Troubles, f.Trouble)
	}
	o.Sentence = numbers(s, len(all), left)
	return o
}

// The ranks of applications with trouble, the worst first.
const (
	servesNothing = iota // a deployment that should have replicas has none, after failures
	lacksReplicas        // UNHEALTHY, and served by the replicas that are left
	callsSuffer          // calls fail, are rejected, wait for slots, or wait for each other; a replica does not answer
	failedDeploy         // the revision before serves
	failedPolicy         // the numbers of replicas do not follow
	changes              // a deploy or a delete that is under way, or waits
	otherwise            // slow requests, and trouble that is over
)

func rank(a helvetype.ApplicationStatus) int {
	best := otherwise
	at := func(rank int) { best = min(best, rank) }
	switch a.Status {
	case helvetype.ApplicationUnhealthy:
		at(lacksReplicas)
	case helvetype.ApplicationDeployFailed:
		at(failedDeploy)
		if !serves(a) {
			at(servesNothing)
		}
	case helvetype.ApplicationDeploying, helvetype.ApplicationDeleting, helvetype.ApplicationNotStarted:
		at(changes)
	}
	if a.FailedDeploy != nil {
		at(failedDeploy)
	}
	for _, d := range a.Deployments {
		if d.Wanted > 0 && d.Ready == 0 && d.Failures > 0 && a.Status != helvetype.ApplicationDeleting {
			at(servesNothing)
		}
		m := d.LastMinute
		unresponsive := slices.ContainsFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.Unresponsive != nil })
		if d.Cycle != "" || unresponsive || d.Calls.Queued > 0 && (d.Ready > 0 || d.Wanted == 0) || m != nil && (m.Rejected > 0 || m.Errors > 0) {
			at(callsSuffer)
		}
		if policyFails(d.Autoscaling, "") != "" {
			at(failedPolicy)
		}
	}
	return best
}

// numbers are those of the applications, replicas and calls of a node, of which some applications have trouble. Requests that their clients have left in a queue are no calls, and are told apart.
func numbers(s helvetype.Status, troubled, left int) string {
	var ready, wanted, deployments, running, queued int
	var calls, failed, rejected uint64
	for _, a := range s.Applications {
		for name, d := range a.Deployments {
			deployments++
			ready, wanted = ready+min(d.Ready, d.Wanted), wanted+d.Wanted
			running, queued = running+d.Calls.Running, queued+d.Calls.Queued
			if m := d.LastMinute; m != nil {
				calls, rejected = calls+m.Calls, rejected+m.Rejected
				if !passes(a, name) {
					failed += m.Errors
				}
			}
		}
	}
	if len(s.Applications) == 0 {
		return "no application runs"
	}
	var b strings.Builder
	switch {
	case troubled == 0:
		fmt.Fprintf(&b, "all is well: %s with %s %s", count(len(s.Applications), "application"), count(deployments, "deployment"), verb(len(s.Applications)))
	case troubled == 1:
		fmt.Fprintf(&b, "1 of %s is not as it should be", count(len(s.Applications), "application"))
	default:
		fmt.Fprintf(&b, "%d of %s are not as they should be", troubled, count(len(s.Applications), "application"))
	}
	fmt.Fprintf(&b, "; %d of %s %s calls; %s now, and %s", ready, count(wanted, "replica"), gets(wanted), runs(running), waits(queued))
	if calls+rejected > 0 {
		some := "none"
		if failed+rejected > 0 {
			some = fmt.Sprint(failed + rejected)
		}
		fmt.Fprintf(&b, "; %s of the %s of the last minute failed", some, count(int(calls+rejected), "call"))
		if rejected > 0 {
			fmt.Fprintf(&b, ", %d because a queue was full", rejected)
		}
	}
	if left > 0 {
		fmt.Fprintf(&b, "; %s %s given up by %s", count(left, "request"), map[bool]string{true: "was", false: "were"}[left == 1], map[bool]string{true: "its client", false: "their clients"}[left == 1])
	}
	return b.String()
}

func verb(n int) string { return map[bool]string{true: "runs", false: "run"}[n == 1] }

func waits(calls int) string {
	if calls == 0 {
		return "none waits"
	}
	return strings.TrimSuffix(waitFor(calls), " for")
}

func runs(calls int) string { return count(calls, "call") + " " + verb(calls) }
