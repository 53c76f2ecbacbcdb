package why

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/helve-serve/helve/helvetype"
)

// chain follows the waits of a deployment for the deployments that it uses, to its root, a deployment that waits for no other. For example, Front uses Ranker, and Ranker uses Model, whose constructor
// raises: the chain of Front is Front, Ranker, Model. Of several deployments that are used and not ready, a failing one comes first.
func chain(a helvetype.ApplicationStatus, name string) (path []string) {
	for {
		path = append(path, name)
		next := ""
		for _, used := range slices.Sorted(slices.Values(a.Deployments[name].Uses)) {
			if d, there := a.Deployments[used]; there && missing(d) && !slices.Contains(path, used) && (next == "" || d.Failures > 0 && a.Deployments[next].Failures == 0) {
				next = used
			}
		}
		if next == "" || a.Deployments[name].Failures > 0 {
			return path
		}
		name = next
	}
}

func missing(d helvetype.DeploymentStatus) bool {
	return d.Status != helvetype.DeploymentHealthy && d.Ready < d.Wanted
}

// worst is the chain of an application that does not run: one whose root fails, else the longest one; nil if no deployment misses a replica.
func worst(a helvetype.ApplicationStatus) (path []string) {
	for _, name := range slices.Sorted(maps.Keys(a.Deployments)) {
		if !missing(a.Deployments[name]) {
			continue
		}
		other := chain(a, name)
		fails, known := a.Deployments[other[len(other)-1]].Failures > 0, len(path) > 0 && a.Deployments[path[len(path)-1]].Failures > 0
		if len(path) == 0 || fails && !known || fails == known && len(other) > len(path) {
			path = other
		}
	}
	return path
}

// waitsFor says what a chain waits for, from its root on; "" for a root that says nothing of itself. The text known has been said already.
func waitsFor(a helvetype.ApplicationStatus, path []string, known string) string {
	root := path[len(path)-1]
	d := a.Deployments[root]
	text := ""
	switch message := brief(d.Message); {
	case message != "" && strings.Contains(known, message):
	case message != "":
		text = fmt.Sprintf("deployment %s: %s", root, message)
	default:
		for _, r := range d.Replicas {
			if r.Wait != nil {
				text = fmt.Sprintf("replica %s of deployment %s waits for %s since %s", r.ID, root, r.Wait.For, stamp(r.Wait.Since))
				break
			}
		}
	}
	var links []string
	for i, name := range path[:len(path)-1] {
		if i == 0 {
			name = "deployment " + name
		}
		links = append(links, fmt.Sprintf("%s waits for %s", name, path[i+1]))
	}
	return strings.Join(slices.DeleteFunc([]string{text, strings.Join(links, ", and ")}, func(s string) bool { return s == "" }), "; ")
}

// rollout says how far the rollout of an application is, and names the command that goes on with it; "" for an application without a rollout that is under way.
func rollout(app string, a helvetype.ApplicationStatus) (text, next string) {
	r := a.Rollout
	if r == nil || r.State == "watching" || r.State == "rolling back" {
		return "", ""
	}
	text = fmt.Sprintf("the rollout from revision %d to %d is %s since %s", r.From, r.To, map[string]string{"going": "under way", "waiting": "waiting", "paused": "paused"}[r.State], stamp(r.Since))
	if r.Message != "" {
		text += ": " + strings.TrimPrefix(strings.TrimPrefix(brief(r.Message), "paused "), "paused, ")
	}
	ends := fmt.Sprintf("helve rollback %s, or another deploy, ends it", app)
	switch r.State {
	case "paused":
		next = fmt.Sprintf("the rollout of revision %d is paused: helve resume %s goes on with it; %s", r.To, app, ends)
	case "waiting":
		next = fmt.Sprintf("helve resume %s begins step %d; %s", app, r.Step+1, ends)
	}
	return text, next
}

// firstFailure is the first of the failures that have led to the failed start of a replica: the event is of the last one, and the status of its deployment keeps the first.
func firstFailure(ev helvetype.Event, a helvetype.ApplicationStatus) helvetype.Event {
	f := a.Deployments[ev.Object.Deployment].FirstFailure
	if ev.Object.Kind != helvetype.KindReplica || f == nil || !f.At.Before(ev.Time) || ev.Reason != "start_failed" {
		return ev
	}
	ev.Object.Replica, ev.Time, ev.Reason, ev.Message = f.Replica, f.At, "failed", f.Error
	return ev
}
