package controller

import (
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/serving"
)

// Calls lists the calls that wait and run at the deployments of an application, or of all for "", and of one deployment if that is not "".
// Of the calls that wait for a slot it lists up to limit per deployment.
func (c *Controller) Calls(app, deployment string, limit int) (list helvetype.CallList) {
	type part struct {
		d        *serving.Deployment
		replicas []serving.Replica
	}
	var parts []part
	c.mu.Lock()
	for _, a := range c.apps {
		for _, d := range a.deployments {
			if app != "" && a.name != app || deployment != "" && d.name != deployment {
				continue
			}
			p := part{d: d.serving}
			for _, r := range d.liveReplicasLocked() {
				p.replicas = append(p.replicas, r)
			}
			parts = append(parts, p)
		}
	}
	c.mu.Unlock()
	for _, p := range parts {
		calls, unlisted := p.d.Calls(p.replicas, limit)
		list.Calls = append(list.Calls, calls...)
		list.Unlisted += unlisted
	}
	return list
}
