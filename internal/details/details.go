// Package details describes a node in the shape of the reference's REST API (ServeInstanceDetails), and with fields of Helve's own beside. It is pure: it reads
// statuses and options, and asks no replica.
//
// For example, an application in a rollout has the field rollout in the answer of GET /api/v1/instance, and does not have it in that of
// GET /api/serve/applications/, because the reference's clients refuse fields that they do not know.
package details

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/secret"
)

// Instance is the answer to GET /api/serve/applications/: the reference's ServeInstanceDetails. Its clients find every field that
// Helve knows of, and null where Helve has no such thing (actors, cluster nodes). The fields at the end of each type are Helve's own: GET /api/v1/instance
// has these too.
type Instance struct {
	ControllerInfo Actor                  `json:"controller_info"`
	ProxyLocation  string                 `json:"proxy_location"` // "Disabled" without HTTP
	HTTPOptions    *HTTPOptions           `json:"http_options"`
	GRPCOptions    *struct{}              `json:"grpc_options"`
	Proxies        map[string]ProxyStatus `json:"proxies"`
	Applications   map[string]AppDetails  `json:"applications"`
	TargetCapacity *float64               `json:"target_capacity"`
	TargetGroups   []TargetGroup          `json:"target_groups"`

	References *helvetype.References         `json:"references,omitempty"`
	Resources  map[string]helvetype.Resource `json:"resources,omitempty"` // by the name of the thing
	Draining   bool                          `json:"draining,omitzero"`   // the node is closing, and waits for the calls that run
	Version    string                        `json:"version,omitzero"`    // of the node's program
}

// Actor is where a part of the system runs.
type Actor struct {
	NodeID         string  `json:"node_id"`
	NodeIP         string  `json:"node_ip"`
	NodeInstanceID *string `json:"node_instance_id"`
	ActorID        *string `json:"actor_id"`
	ActorName      *string `json:"actor_name"`
	WorkerID       *string `json:"worker_id"`
	LogFilePath    *string `json:"log_file_path"`
}

// HTTPOptions say where the ingress listens, and have the other fields of http_options that files have set. A password is "***".
type HTTPOptions struct {
	Host           string   `json:"host"`
	Port           int      `json:"port"`
	RootPath       *string  `json:"root_path,omitempty"`
	RequestTimeout *float64 `json:"request_timeout_s,omitempty"`
	KeepAlive      *float64 `json:"keep_alive_timeout_s,omitempty"`
	Key            *string  `json:"ssl_keyfile,omitempty"`
	Certificate    *string  `json:"ssl_certfile,omitempty"`
	KeyPassword    *string  `json:"ssl_keyfile_password,omitempty"`
	ClientCA       *string  `json:"ssl_ca_certs,omitempty"`
}

// ProxyStatus is the ingress of one node.
type ProxyStatus struct {
	Actor
	Status string `json:"status"`
}

// TargetGroup says where clients reach an application.
type TargetGroup struct {
	Targets     []Target `json:"targets"`
	RoutePrefix string   `json:"route_prefix"`
	Protocol    string   `json:"protocol"`
	AppName     string   `json:"app_name"`
}

// Target is one address of a [TargetGroup].
type Target struct {
	IP         string `json:"ip"`
	Port       int    `json:"port"`
	InstanceID string `json:"instance_id"`
	Name       string `json:"name"`
}

// AppDetails is one application.
type AppDetails struct {
	Name               string                       `json:"name"`
	RoutePrefix        *string                      `json:"route_prefix"`
	DocsPath           *string                      `json:"docs_path"`
	Status             helvetype.ApplicationState   `json:"status"`
	Message            string                       `json:"message"`
	LastDeployedTimeS  float64                      `json:"last_deployed_time_s"`
	DeployedAppConfig  json.RawMessage              `json:"deployed_app_config"`
	Source             string                       `json:"source"` // "imperative": a program deployed it
	Deployments        map[string]DeploymentDetails `json:"deployments"`
	ExternalScaler     bool                         `json:"external_scaler_enabled"`
	DeploymentTopology *Topology                    `json:"deployment_topology"`

	Revision     int                     `json:"revision,omitzero"`
	SharedMemory *helvetype.SharedMemory `json:"shared_memory,omitempty"`
	Rollout      *helvetype.Rollout      `json:"rollout,omitempty"` // nil while there is none
	FailedDeploy *helvetype.FailedDeploy `json:"failed_deploy,omitempty"`
}

// InOrder has the deployments with the ingress first, and the others by name.
func (a AppDetails) InOrder() []DeploymentDetails {
	ingress := ""
	if t := a.DeploymentTopology; t != nil && t.IngressDeployment != nil {
		ingress = *t.IngressDeployment
	}
	return slices.SortedFunc(maps.Values(a.Deployments), func(x, y DeploymentDetails) int {
		if (x.Name == ingress) != (y.Name == ingress) {
			if x.Name == ingress {
				return -1
			}
			return 1
		}
		return strings.Compare(x.Name, y.Name)
	})
}

// Scaled says whether the deployments of an application have the replicas that they should have, or why one of them does not get them. For example, the lower bound of an autoscaler has become 3, and 1 replica runs: it is
// over when 3 run. A replica that does not fit on the node may wait without end: it is not over then, and the failure is the wait. only is the one deployment to look at; "" for all.
func (a AppDetails) Scaled(only string) (over bool, failure string) {
	over = true
	for _, name := range slices.Sorted(maps.Keys(a.Deployments)) {
		if only != "" && name != only {
			continue
		}
		for _, r := range a.Deployments[name].Replicas {
			if r.Waits != nil && r.Waits.Reason != "" {
				return false, "deployment " + name + ": replica " + r.ReplicaID + " " + r.Waits.Reason
			}
		}
		switch d, s := a.Deployments[name], a.Deployments[name].Autoscaling; {
		case d.Status == helvetype.DeploymentUnhealthy || d.Status == helvetype.DeploymentDeployFailed:
			return true, "deployment " + name + ": " + cmp.Or(d.Message, "it is "+string(d.Status))
		case d.Status == helvetype.DeploymentUpdating || d.Status == helvetype.DeploymentUpscaling || d.Status == helvetype.DeploymentDownscaling || d.Status == helvetype.DeploymentHealthy && s != nil && s.Outside():
			over = false
		}
	}
	return over, ""
}

// Topology says which deployments of an application call which others.
type Topology struct {
	AppName           string                  `json:"app_name"`
	IngressDeployment *string                 `json:"ingress_deployment"`
	Nodes             map[string]TopologyNode `json:"nodes"`
}

// TopologyNode is one deployment of a [Topology].
type TopologyNode struct {
	Name                string     `json:"name"`
	AppName             string     `json:"app_name"`
	IsIngress           bool       `json:"is_ingress"`
	OutboundDeployments []Outbound `json:"outbound_deployments"`
}

// Outbound is a deployment that another calls.
type Outbound struct {
	Name    string `json:"name"`
	AppName string `json:"app_name"`
}

// DeploymentDetails is one deployment.
type DeploymentDetails struct {
	Name              string                      `json:"name"`
	Status            helvetype.DeploymentState   `json:"status"`
	StatusTrigger     helvetype.DeploymentTrigger `json:"status_trigger"`
	Message           string                      `json:"message"`
	DeploymentConfig  json.RawMessage             `json:"deployment_config"`
	TargetNumReplicas int                         `json:"target_num_replicas"`
	RequiredResources map[string]float64          `json:"required_resources"`
	Replicas          []ReplicaDetails            `json:"replicas"`
	AutoscalingDetail *AutoscalingDetail          `json:"autoscaling_detail"`
	Autoscaling       *helvetype.Autoscaling      `json:"autoscaling,omitempty"` // the same with all that is known

	Calls      helvetype.Calls       `json:"calls,omitzero"`
	LastMinute *helvetype.LastMinute `json:"last_minute,omitempty"`
	Stopping   int                   `json:"stopping_replicas,omitzero"` // replicas that finish their calls, and stop then
	LastExit   *helvetype.Exit       `json:"last_exit,omitempty"`
}

// ReplicaDetails is one replica.
type ReplicaDetails struct {
	Actor
	ReplicaID  string                 `json:"replica_id"`
	State      helvetype.ReplicaState `json:"state"`
	PID        *int                   `json:"pid"` // of the node for a replica in its process; null for one whose process has not started
	StartTimeS float64                `json:"start_time_s"`

	Revision     int                     `json:"revision,omitempty"` // of the application
	GPUs         []string                `json:"gpus,omitempty"`
	Resources    map[string]float64      `json:"resources,omitempty"`        // that it has asked for and holds
	Memory       uint64                  `json:"memory_bytes,omitempty"`     // of its process
	CPU          float64                 `json:"cpu_percent,omitempty"`      // of its process, in the last seconds
	GPUMemory    uint64                  `json:"gpu_memory_bytes,omitempty"` // of GPUs, that its process and the children of that use
	InNode       bool                    `json:"in_node,omitzero"`           // its instance is in the process of the node
	Restarts     int                     `json:"restarts,omitempty"`
	LastExit     *helvetype.Exit         `json:"last_exit,omitempty"`
	Unresponsive *helvetype.Unresponsive `json:"unresponsive,omitempty"`
	Waits        *helvetype.Wait         `json:"waits,omitempty"` // of a replica that starts
	NotReady     *helvetype.Condition    `json:"not_ready,omitempty"`
	Ejected      *helvetype.Condition    `json:"ejected,omitempty"`
}

// NodeID is the id of the node in the details.
const NodeID = "local"

// The values of api_type and of the source of an application.
const (
	Imperative  = "imperative"  // a program has deployed it
	Declarative = "declarative" // a file has it
)

// Reference is the instance without the fields that the reference's schema does not have: its clients refuse an answer with other fields.
func (in Instance) Reference() Instance {
	in.References, in.Resources, in.Draining, in.Version = nil, nil, false, ""
	apps := make(map[string]AppDetails, len(in.Applications))
	for name, app := range in.Applications {
		app.DeployedAppConfig = withURIs(app.DeployedAppConfig, true)
		app.Revision, app.SharedMemory, app.Rollout, app.FailedDeploy = 0, nil, nil, nil
		deployments := make(map[string]DeploymentDetails, len(app.Deployments))
		for d, of := range app.Deployments {
			of.Calls, of.LastMinute, of.Stopping, of.LastExit, of.Autoscaling = helvetype.Calls{}, nil, 0, nil, nil
			of.DeploymentConfig = withURIs(of.DeploymentConfig, false)
			replicas := make([]ReplicaDetails, len(of.Replicas))
			for i, r := range of.Replicas {
				replicas[i] = ReplicaDetails{Actor: r.Actor, ReplicaID: r.ReplicaID, State: r.State, PID: r.PID, StartTimeS: r.StartTimeS}
			}
			of.Replicas = replicas
			deployments[d] = of
		}
		app.Deployments = deployments
		apps[name] = app
	}
	in.Applications = apps
	return in
}

// Here is the place of a node that serves at the URL of an ingress; "" without one.
func Here(ingress string) Actor {
	host, _ := Address(ingress)
	return Actor{NodeID: NodeID, NodeIP: host}
}

// Address is the host and the port of the URL of an ingress; the port is 0 without one, and for a unix socket.
func Address(ingress string) (host string, port int) {
	u, err := url.Parse(ingress)
	if err != nil || u.Host == "" { // of a unix socket, for example
		return "127.0.0.1", 0
	}
	host, text, err := net.SplitHostPort(u.Host)
	if err != nil {
		return u.Host, 80
	}
	port, _ = strconv.Atoi(text)
	return host, port
}

// App describes an application: its status, the options of its deployments, and the place of its replicas.
func App(name string, s helvetype.ApplicationStatus, was deploy.DeployedApp, here Actor) AppDetails {
	app := AppDetails{
		Name: name, Status: s.Status, Message: s.Message, LastDeployedTimeS: seconds(s.DeployedAt), Source: Imperative,
		Deployments: map[string]DeploymentDetails{}, Revision: was.Revision, SharedMemory: s.SharedMemory, Rollout: s.Rollout, FailedDeploy: s.FailedDeploy,
		DeploymentTopology: &Topology{AppName: name, Nodes: map[string]TopologyNode{}},
	}
	if s.FailedDeploy != nil && len(s.Deployments) == 0 { // only files leave a failure of an application that has never run
		app.Source = Declarative
	}
	if s.RoutePrefix != "" {
		app.RoutePrefix = &s.RoutePrefix
	}
	if len(was.Submitted) > 0 {
		app.DeployedAppConfig, app.Source = shown(was.Submitted), Declarative
	}
	if was.DocsPath != "" {
		app.DocsPath = &was.DocsPath
	}
	for d, ds := range s.Deployments {
		wants := was.Deployments[d]
		node := TopologyNode{Name: d, AppName: name, IsIngress: wants.Ingress, OutboundDeployments: []Outbound{}}
		for _, used := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(ds.Uses, ds.DynamicUses)))) {
			node.OutboundDeployments = append(node.OutboundDeployments, Outbound{used, name})
		}
		if wants.Ingress {
			app.DeploymentTopology.IngressDeployment = &node.Name
		}
		app.DeploymentTopology.Nodes[d] = node
		app.Deployments[d] = deploymentDetails(d, ds, wants, here)
	}
	return app
}

func deploymentDetails(name string, s helvetype.DeploymentStatus, wants deploy.DeployedDeployment, here Actor) DeploymentDetails {
	d := DeploymentDetails{
		Name: name, Status: s.Status, StatusTrigger: s.Trigger, Message: s.Message, DeploymentConfig: shown(wants.Config),
		TargetNumReplicas: wants.NumReplicas, RequiredResources: wants.Resources, Replicas: []ReplicaDetails{}, Calls: s.Calls, LastMinute: s.LastMinute, LastExit: s.LastExit,
	}
	if d.RequiredResources == nil {
		d.RequiredResources = map[string]float64{}
	}
	d.AutoscalingDetail, d.Autoscaling = autoscalingDetail(s), s.Autoscaling
	for _, r := range s.Replicas {
		rd := ReplicaDetails{
			Actor: here, ReplicaID: r.ID, State: r.State, StartTimeS: seconds(r.StartedAt), Revision: r.Revision, GPUs: r.GPUs, Resources: r.Resources, Memory: r.Memory, CPU: r.CPU, GPUMemory: r.GPUMemory, InNode: r.PID == 0 && r.State != helvetype.ReplicaStarting,
			Restarts: r.Restarts, LastExit: r.LastExit, Unresponsive: r.Unresponsive, Waits: r.Wait, NotReady: r.NotReady, Ejected: r.Ejected,
		}
		if pid := r.PID; pid != 0 {
			rd.PID = &pid
		} else if rd.InNode {
			here := os.Getpid()
			rd.PID = &here
		}
		if r.State == helvetype.ReplicaStopping {
			d.Stopping++
		}
		d.Replicas = append(d.Replicas, rd)
	}
	return d
}

// shown is a configuration without the values of secrets. Most have none, and cost no copy.
func shown(config json.RawMessage) json.RawMessage {
	if !secret.Has(config) && !bytes.Contains(config, []byte("env_vars")) {
		return config
	}
	return secret.Redact(config)
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
