package fleet

import (
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/spec"
)

// SameCodeLocked says which deployments of an application to deploy have the code of the deployments that run.
func (a *Application) SameCodeLocked(def *deploy.App, set deploy.Settings) map[string]bool {
	same := map[string]bool{}
	for _, s := range def.Graph.Deployments {
		d := a.Deployments[s.Name]
		if d == nil || d.Dropped {
			continue
		}
		_, placed := def.Place(s, a.Hosts, set)
		same[s.Name] = def.Changes == d.Now.Revision.Number || placed.Code.Same(d.Now.Code, def.RollbackOf != 0)
	}
	return same
}

// ReturnsLocked are the numbers of replicas that the end of a deploy under way puts back; nil for none. For example, the deploy has set 3 in place of 2, and an operator has set none since.
func (a *Application) ReturnsLocked() map[string]deploy.Returned {
	if !a.DeployingLocked() {
		return nil
	}
	all := map[string]deploy.Returned{}
	for name, d := range a.Deployments {
		if d.Former != nil && d.SetByLocked(a.Current) {
			all[name] = deploy.Returned{Replicas: d.FormerAsked.Replicas, ByLoad: d.FormerAsked.Scaled}
		}
	}
	return all
}

// NewRevisionReasonLocked says why a deploy of an application makes a revision; "" for a deploy of an application as it runs, or as it is rolled out, with the same code and options, by the
// same source. Such a deploy makes none. An application whose handles are bound to deployments of this process is always deployed, for the handles.
func (a *Application) NewRevisionReasonLocked(def *deploy.App, set deploy.Settings) string {
	switch {
	case a == nil || a.Failure != nil || a.EndingLocked():
		return "it does not run"
	case def.RollbackOf != 0:
		return "a rollback is a revision of its own"
	case def.Bound != nil || def.Home != nil || def.Restored || !def.Replace:
		return "its program deploys it"
	case a.RolledBack != "":
		return "the last deploy, revision " + a.RolledBack + ", was rolled back, and this one takes its place"
	case a.Yields:
		return "it takes the place of a deploy that was under way"
	case a.Change != nil && a.Change.Stuck != "":
		return "its rollout has failed and is paused, and a deploy begins it again"
	case a.Own != helvetype.ApplicationRunning && !a.DeployingLocked():
		return "the node starts it again, and it does not run yet"
	case def.Source != a.Current.Def.Source:
		return fmt.Sprintf("it belongs to source %q then", def.Source)
	}
	for name := range def.Cleared {
		return "the number of replicas of " + name + " was set by an operator, and is that of the options then"
	}
	now := &a.Current.Def
	if !deploy.SameOptions(now, def) {
		return "its options have changed"
	}
	if !deploy.SamePlaces(now, def) {
		return "its directories have changed"
	}
	for _, s := range def.Graph.Deployments {
		if d := a.Deployments[s.Name]; d == nil || d.Now.Revision != a.Current || spec.ConfigDigest(d.Now.Config.Next().Value) != spec.ConfigDigest(s.Options.UserConfig) ||
			string(d.Now.Config.Current.Value) != string(s.Options.UserConfig) {
			return "the user config of " + s.Name + " was set in place, and is that of the deploy then"
		}
	}
	for _, same := range a.SameCodeLocked(def, set) {
		if !same {
			return "its code has changed"
		}
	}
	return ""
}
