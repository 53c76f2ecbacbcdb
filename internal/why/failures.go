package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// atOnce is the time within which replicas fail the same check because of a dependency that they share: the periods of their checks are not the same.
const atOnce = 10 * time.Second

// failedReplicas are the events of the replicas of a deployment that have failed in a time, the oldest first.
func failedReplicas(events Events, app, deployment string, from, to time.Time) (all []helvetype.Event) {
	for _, ev := range events.Replicas(app, deployment) {
		switch ev.Reason {
		case "replace", "died", "start_failed", "lost":
			if !ev.Time.Before(from) && !ev.Time.After(to) {
				all = append(all, ev)
			}
		}
	}
	return all
}

// checkText is the text with which a replica has failed its health check. For example, the event of a replica that ran says "replica R#1 failed 3 health checks: no rates", and that of one
// in its start "shop/R.check_health: no rates" with a traceback: the text of both is "no rates".
func checkText(message string) (text string, ok bool) {
	line := firstLine(message)
	for _, before := range []string{" health checks: ", " health check: ", ".check_health: "} {
		if _, text, ok = strings.Cut(line, before); ok {
			return text, true
		}
	}
	return "", false
}

// common is a health check that several replicas have failed with the same text at about the same time.
type common struct {
	text     string
	replicas int
	at       time.Time // of the last one
	within   time.Duration
}

// shared finds the newest of them among the failures of a deployment. A replica in its start fails alone: its events count only beside those of others.
func shared(failures []helvetype.Event) (newest common, ok bool) {
	for i, first := range failures {
		text, is := checkText(first.Message)
		if !is || first.From != string(helvetype.ReplicaRunning) {
			continue
		}
		ids, last := []string{first.Object.Replica}, first.Time
		for _, ev := range failures[i+1:] {
			other, is := checkText(ev.Message)
			if is && other == text && ev.From == first.From && ev.Time.Sub(first.Time) <= atOnce && !slices.Contains(ids, ev.Object.Replica) {
				ids, last = append(ids, ev.Object.Replica), ev.Time
			}
		}
		if len(ids) > 1 && (!ok || first.Time.Sub(newest.at) > atOnce || len(ids) > newest.replicas) {
			newest, ok = common{text, len(ids), last, last.Sub(first.Time)}, true
		}
	}
	return newest, ok
}

// sharedCheck says that replicas of a deployment have failed the same check together in the last minutes; "" for none.
func sharedCheck(events Events, app, deployment string, now time.Time) (text, next string) {
	c, ok := shared(failedReplicas(events, app, deployment, now.Add(-recently), now))
	if !ok {
		return "", ""
	}
	return fmt.Sprintf("%d replicas of %s failed the same health check within %s, last at %s: %s. That points to a dependency that they share, which new replicas do not mend",
			c.replicas, deployment, ms(max(float64(c.within)/float64(time.Millisecond), 1)), stamp(c.at), c.text),
		"see whether the check asks for a thing outside of the replica: in place of check_health, check_ready keeps the last replica (docs/health.md), and health_check_failure_threshold waits longer"
}

// without says why a deployment had no replica while a call waited: which replicas have failed shortly before, or meanwhile.
func without(events Events, wait helvetype.Span) string {
	end := wait.Started.Add(time.Duration(wait.Milliseconds * float64(time.Millisecond)))
	failures := failedReplicas(events, wait.App, wait.Deployment, wait.Started.Add(-recently), end)
	var ids []string
	for _, ev := range failures {
		if ev.From == string(helvetype.ReplicaRunning) && end.Sub(ev.Time) <= time.Duration(wait.Milliseconds*float64(time.Millisecond))+coldBefore && !slices.Contains(ids, ev.Object.Replica) {
			ids = append(ids, ev.Object.Replica)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	last := failures[len(failures)-1]
	for _, ev := range slices.Backward(failures) {
		if ev.Object.Replica == ids[len(ids)-1] && ev.From == string(helvetype.ReplicaRunning) {
			last = ev
			break
		}
	}
	if c, ok := shared(failures); ok && c.replicas >= len(ids) {
		return fmt.Sprintf("all %d were replaced after check_health had failed in each at the same time: %s", c.replicas, c.text)
	}
	if len(ids) == 1 {
		return fmt.Sprintf("%s had failed: %s", ids[0], brief(last.Message))
	}
	return fmt.Sprintf("%s had failed, the last one with: %s", strings.Join(ids, ", "), brief(last.Message))
}

// coldBefore is how long before a wait without a replica the failures are that have led to it: replicas need that time to start.
const coldBefore = 30 * time.Second
