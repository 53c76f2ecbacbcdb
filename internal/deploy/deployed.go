package deploy

import (
	"encoding/json"

	"github.com/helve-serve/helve/internal/host"
)

// DeployedApp is an application as it was deployed, for people and programs that ask the node.
type DeployedApp struct {
	Revision    int
	DocsPath    string          // as in [spec.IngressSpec]
	Submitted   json.RawMessage // the configuration that a file has of it; nil if a program has deployed it
	Deployments map[string]DeployedDeployment
}

// DeployedDeployment is a deployment as it was deployed.
type DeployedDeployment struct {
	Config      json.RawMessage // its options, under the reference's names
	NumReplicas int             // that are wanted
	Ingress     bool
	Resources   map[string]float64 // that a replica asks for, by the names that Ray has for them
}

// Deployed describes a deployment with the number of replicas that are wanted, the user config in use, and whether it is the ingress.
func Deployed(d *host.Deployment, replicas int, userConfig json.RawMessage, ingress bool) DeployedDeployment {
	return DeployedDeployment{Config: Config(d, replicas, userConfig), NumReplicas: replicas, Resources: Resources(d), Ingress: ingress}
}

// Config is the options of a deployment under the reference's names, with the defaults of the most important ones. The number of replicas is
// the wanted one; userConfig is empty for none. A deployment with an autoscaling_config has no num_replicas, because the reference's clients refuse the two together.
func Config(d *host.Deployment, replicas int, userConfig json.RawMessage) json.RawMessage {
	config := map[string]any{}
	if b, err := json.Marshal(d.Spec.Options); err == nil {
		json.Unmarshal(b, &config) //nolint:errcheck // it was just made
	}
	config["name"], config["num_replicas"] = d.Name, replicas
	if config["autoscaling_config"] != nil {
		delete(config, "num_replicas")
	}
	config["max_ongoing_requests"], config["max_queued_requests"] = d.Options.MaxOngoingRequests, d.Options.MaxQueuedRequests
	config["graceful_shutdown_timeout_s"] = d.Options.GracefulShutdownTimeout.Seconds()
	if len(userConfig) > 0 {
		config["user_config"] = userConfig
	}
	b, err := json.Marshal(config)
	if err != nil {
		return nil
	}
	return b
}
