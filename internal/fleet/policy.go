package fleet

import (
	"maps"
	"slices"

	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/policy"
)

// foundPolicy is the autoscaling policy of a deployment, as it was found for a revision of its application.
type foundPolicy struct {
	of       *DeploymentRevision
	revision *Revision
	source   policy.Source
	custom   bool
}

// WarmLocked has spare processes for the deployments that want one (warm_spare), and ends those of others. It does not wait.
func (a *Application) WarmLocked() {
	var warm []string
	for name, d := range a.Deployments {
		if h, ok := d.Now.Host.(*host.PythonWorker); ok && d.Now.Definition.Options.WarmSpare && !d.Dropped && !d.Over {
			h.Warm()
			warm = append(warm, name)
		}
	}
	a.Hosts.Spares.Keep(warm)
}

// NewPoliciesLocked are the policies among those of a deploy that the application does not have already. a may be nil.
func (a *Application) NewPoliciesLocked(all []policy.Source) []policy.Source {
	if a == nil || a.Failure != nil || a.EndingLocked() {
		return all
	}
	there := map[string]bool{}
	for _, d := range a.Deployments {
		if d.Now.Definition.Options.Autoscaled() && !d.Dropped {
			source, _ := d.policyLocked()
			there[source.Version] = true
		}
	}
	return slices.DeleteFunc(all, func(s policy.Source) bool { return there[s.Version] })
}

// policyLocked is the policy of a deployment that scales by itself; false for that of the node.
func (d *Deployment) policyLocked() (policy.Source, bool) {
	found := &d.policy
	if found.of == d.Now && found.revision == d.App.Current {
		return found.source, found.custom
	}
	*found = foundPolicy{of: d.Now, revision: d.App.Current}
	config, err := autoscale.Parse(d.Now.Definition.Options.AutoscalingConfig)
	if err != nil { // the deploy has checked it
		return found.source, false
	}
	if _, together := d.App.Current.Def.TogetherPolicy(); !together && config.Policy.Function == "" {
		return found.source, false // without a list of all deployments for each of them: there may be hundreds
	}
	var all []string
	var hosts []host.Host
	for _, name := range slices.Sorted(maps.Keys(d.App.Deployments)) {
		x := d.App.Deployments[name]
		hosts = append(hosts, x.Now.Host)
		if x.Now.Definition.Options.Autoscaled() && !x.Dropped && !x.Over {
			all = append(all, name)
		}
	}
	found.source, found.custom = d.App.Current.Def.ScalingPolicy(deploy.Autoscaled{
		Deployment: d.Name, Host: d.Now.Host, Config: d.Now.Definition.Options.AutoscalingConfig, Policy: config.Policy,
	}, all, deploy.PythonHosts(hosts))
	return found.source, found.custom
}
