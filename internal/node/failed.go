package node

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
)

// failedDeploys are the newest deploys of applications that have changed nothing, because their code could not be built or the node refused them. For example, revision 3 of
// shop runs, and a file with a mistake in its module is applied: the failure belongs to revision 3, and is in the status until shop has revision 4. The next node
// finds the failures among the events of this one. The zero value has none.
type failedDeploys struct {
	mu  sync.Mutex
	all map[string]failedDeploy
}

// failedDeploy is one failure. revision is the revision that was the target at its time; 0 for an application that was not there.
type failedDeploy struct {
	helvetype.FailedDeploy
	revision int
	prefix   string // the route prefix of the file; "" for none
}

// failedMax is the number of failures that are kept. The oldest go first.
const failedMax = 256

// The reasons of the events of failures, which [failedDeploys.resume] reads, and their inputs.
const (
	buildFailed  = "build_failed"
	buildSettled = "build_settled" // the application is as the next deploy wants it, or the failure was deleted
	inputBy      = "by"
	inputSource  = "source"
	inputTarget  = "revision"
	inputPrefix  = "route_prefix"
)

func (f *failedDeploys) put(app string, one failedDeploy) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[string]failedDeploy{}
	}
	f.all[app] = one
	if len(f.all) <= failedMax {
		return
	}
	oldest := app
	for name, other := range f.all {
		if other.At.Before(f.all[oldest].At) {
			oldest = name
		}
	}
	delete(f.all, oldest)
}

// take removes the failure of an application. false: it has none.
func (f *failedDeploys) take(app string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, there := f.all[app]
	delete(f.all, app)
	return there
}

// of is the failure of an application whose target is a revision, 0 for none. A failure of another revision is not the newest deploy any more.
func (f *failedDeploys) of(app string, revision int) (one failedDeploy, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one, ok = f.all[app]
	return one, ok && one.revision == revision
}

// names are the applications with failures.
func (f *failedDeploys) names() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.all {
		names = append(names, name)
	}
	return names
}

// resume finds the failures among the events of the node before, the oldest first.
func (f *failedDeploys) resume(events []helvetype.Event) {
	for _, ev := range events {
		app := ev.Object.App
		if ev.Object.Kind != helvetype.KindApplication {
			continue
		}
		revision, _ := strconv.Atoi(ev.Inputs[inputTarget]) // 0 for an application that was not there
		switch ev.Reason {
		case buildFailed:
			f.put(app, failedDeploy{helvetype.FailedDeploy{At: ev.Time, By: ev.Inputs[inputBy], Source: ev.Inputs[inputSource], Error: ev.Message}, revision, ev.Inputs[inputPrefix]})
		case buildSettled:
			f.take(app)
		}
	}
}

// routes are the route prefixes of applications that were not there when their deploy failed, by their names.
func (f *failedDeploys) routes() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]string{}
	for app, one := range f.all {
		if one.revision == 0 && one.prefix != "" {
			all[app] = one.prefix
		}
	}
	return all
}

// NoteFailedDeploy keeps a deploy that has left its application as it was, for the status, until the application is deployed or deleted. Its time is now. The requests below
// prefix, the route prefix of the file, are answered with 503 if the application has never run: they are not for the application of a shorter prefix.
func (n *Node) NoteFailedDeploy(app, prefix string, failed helvetype.FailedDeploy) {
	failed.At = time.Now()
	one := failedDeploy{failed, n.target(app), prefix}
	n.failed.put(app, one)
	n.events.Emit(helvetype.Event{
		Object: helvetype.Object{Kind: helvetype.KindApplication, App: app}, Reason: buildFailed, Message: failed.Error,
		Inputs: map[string]string{inputBy: failed.By, inputSource: failed.Source, inputTarget: strconv.Itoa(one.revision), inputPrefix: prefix},
	})
	n.Publish()
	n.log.Warn("a deploy has failed; the application is as it was", "app", app, "error", failed.Error)
}

// target is the number of the revision that an application should run; 0 for no application.
func (n *Node) target(app string) int {
	now, _, _ := n.Deployed(app, 0)
	return now.Number
}

// forgetFailed forgets the failure of an application.
func (n *Node) forgetFailed(app string) {
	if n.failed.take(app) {
		n.events.Emit(helvetype.Event{Object: helvetype.Object{Kind: helvetype.KindApplication, App: app}, Reason: buildSettled})
		n.Publish()
	}
}

// failedAlone is the failure of an application that has never run; false for an application that is there, and for a name without a failure.
func (n *Node) failedAlone(app string) (one failedDeploy, alone bool) {
	if one, alone = n.failed.of(app, 0); alone {
		_, there := n.Applications()[app]
		alone = !there
	}
	return one, alone
}

// Deploy is [controller.Controller.Deploy]. A failure of a deploy before is over when the application is as this one wants it.
func (n *Node) Deploy(ctx context.Context, def deploy.App) error {
	app, added, unchanged := def.Graph.App, def.Added, def.Unchanged
	if added != nil { // else the controller says more of failed starts
		def.Added = func() {
			n.forgetFailed(app)
			added()
		}
	}
	def.Unchanged = func() {
		n.forgetFailed(app)
		if unchanged != nil {
			unchanged()
		}
	}
	return n.Controller.Deploy(ctx, def)
}

// addFailed adds the failures of deploys to a status. An application that runs all the same is DEPLOY_FAILED as after a rollback; one that is in trouble stays as it is.
func (n *Node) addFailed(to map[string]helvetype.ApplicationStatus) {
	for _, app := range n.failed.names() {
		s, there := to[app]
		revision := 0
		if there {
			revision = n.target(app)
		}
		failed, ok := n.failed.of(app, revision)
		if !ok {
			continue
		}
		s.FailedDeploy = &failed.FailedDeploy
		switch {
		case !there:
			s.Status, s.Message, s.DeployedAt = helvetype.ApplicationDeployFailed, failed.Error, failed.At
			s.Deployments = map[string]helvetype.DeploymentStatus{}
		case s.Status == helvetype.ApplicationRunning:
			s.Status = helvetype.ApplicationDeployFailed
			s.Message = fmt.Sprintf("the last deploy has failed, and revision %d serves on: %s", revision, failed.Error)
		}
		to[app] = s
	}
}
