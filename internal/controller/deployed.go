package controller

import (
	"encoding/json"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// DeployedApp is an application as it was deployed.
type DeployedApp struct {
	Revision    int
	DeployedAt  time.Time
	Deployments map[string]DeployedDeployment
}

// DeployedDeployment is a deployment as it was deployed.
type DeployedDeployment struct {
	Config      json.RawMessage // its options, under the reference's names
	NumReplicas int             // that are wanted
	Ingress     bool
	Waits       map[string]Wait // of replicas that start, by replica
}

// Wait is the step that the start of a replica waits for.
type Wait struct {
	For   string    `json:"for"`
	Since time.Time `json:"since"`
}

// Applications has the applications as they were deployed, for readers of [Controller.Status].
func (c *Controller) Applications() map[string]DeployedApp {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]DeployedApp{}
	for name, a := range c.apps {
		app := DeployedApp{Revision: a.current.number, DeployedAt: a.since, Deployments: map[string]DeployedDeployment{}}
		ingress := ""
		if in := a.current.def.Graph.Ingress; in != nil {
			ingress = in.Deployment
		}
		for _, d := range a.deployments {
			own := DeployedDeployment{NumReplicas: d.wanted, Ingress: d.name == ingress, Waits: map[string]Wait{}}
			own.Config = configOf(d)
			for _, r := range d.replicas {
				if r.state == helvetype.ReplicaStarting && r.waits != "" {
					own.Waits[r.id] = Wait{For: r.waits, Since: r.waitsSince}
				}
			}
			app.Deployments[d.name] = own
		}
		all[name] = app
	}
	return all
}

// configOf is the options of a deployment under the reference's names, with the defaults of the most important ones.
func configOf(d *deployment) json.RawMessage {
	e, config := d.now, map[string]any{}
	if b, err := json.Marshal(e.definition.Spec.Options); err == nil {
		json.Unmarshal(b, &config) //nolint:errcheck // it was just made
	}
	config["name"], config["num_replicas"] = d.name, d.wanted
	config["max_ongoing_requests"], config["max_queued_requests"] = e.definition.Options.MaxOngoingRequests, e.definition.Options.MaxQueuedRequests
	config["graceful_shutdown_timeout_s"] = e.definition.Options.GracefulShutdownTimeout.Seconds()
	if current := e.config.Current.Value; len(current) > 0 {
		config["user_config"] = current
	}
	b, err := json.Marshal(config)
	if err != nil {
		return nil
	}
	return b
}
