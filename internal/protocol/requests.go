package protocol

import (
	"encoding/json"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
)

// Seconds is a time span as it travels: a number of seconds.
type Seconds float64

// SecondsOf converts a time span for a request.
func SecondsOf(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// Duration is the time span, within 0 and [spec.MaxDuration].
func (s Seconds) Duration() time.Duration {
	return time.Duration(max(0, min(float64(s), spec.MaxDuration.Seconds())) * float64(time.Second))
}

// needsReplica is the problem of a request about one replica that names none.
func needsReplica(id string) (field, problem string) {
	if id == "" {
		return "replica", "is missing"
	}
	return "", ""
}

// StartReplica is the node's request to construct a replica. The reply comes when constructor, Reconfigure and the first
// health check have returned.
type StartReplica struct {
	Replica    string          `json:"replica"`
	App        string          `json:"app"`
	Deployment string          `json:"deployment"`
	Code       *Code           `json:"code,omitempty"` // of a Python deployment, and of a Go deployment that an application has from a build
	UserConfig json.RawMessage `json:"user_config,omitempty"`
	// MaxOngoingRequests is the number of slots, with which a Python worker warns of batches that are never full.
	MaxOngoingRequests int     `json:"max_ongoing_requests,omitempty"`
	TimeoutS           Seconds `json:"timeout_s"` // for all of the start
	// UnresponsiveAfterS is how long the event loop of a Python worker may stand before the worker reports it.
	UnresponsiveAfterS Seconds `json:"unresponsive_after_s"`
	// Rank is the number of a Python replica among the replicas of its deployment, from 0 upwards, and WorldSize how many are wanted.
	Rank      int `json:"rank,omitempty"`
	WorldSize int `json:"world_size,omitempty"`
	// CodeVersion names the version of the code of a Python replica.
	CodeVersion string `json:"code_version,omitempty"`
}

// Code names the object that a worker constructs. In a Python worker that is either a class of a module with its arguments, or the entry that
// has the deployment's name in a file of pickles. In a Go worker it is a deployment of the application that the worker has built, which may have
// another name here: for example, the application "shop" has the deployment Ranker of a build under the names Cheap and Dear.
type Code struct {
	Import string `json:"import,omitempty"` // module:Class, or the name of the deployment in its build
	Args   []byte `json:"args,omitempty"`   // MessagePack: [positional, named]
	Blob   string `json:"blob,omitempty"`   // path of the file of pickles
	Digest string `json:"digest,omitempty"` // of that file: SHA-256 in hex
}

// Prepare is the node's request to a Python worker without a replica to import the modules of a deployment, of which it may get a replica.
type Prepare struct {
	Deployment string `json:"deployment"`
	Code       *Code  `json:"code"`
}

// Started describes a replica that is ready.
type Started struct {
	Methods      []Method `json:"methods"`
	Health       bool     `json:"health"`        // the replica has a health check
	Ready        bool     `json:"ready"`         // the replica has a readiness check
	RoutingStats bool     `json:"routing_stats"` // the replica has stats for routing
	// AutoscalingStats says that the replica has numbers for autoscaling policies.
	AutoscalingStats bool `json:"autoscaling_stats,omitempty"`
}

// Method describes one method of a replica.
type Method struct {
	Name  string `json:"name"`
	Shape string `json:"shape"` // unary, action or stream
	HTTP  string `json:"http"`  // the kind of its one argument when an ingress calls it
}

// StopReplica is the node's request to close a replica, which it has drained before.
type StopReplica struct {
	Replica  string  `json:"replica"`
	TimeoutS Seconds `json:"timeout_s"`
}

// Drain is the node's message to a replica that its drain begins: it is to be stopped, or its node is. The replica serves as before; its code may ask
// clients without an end to connect again.
type Drain struct {
	Replica string `json:"replica"`
}

// CheckHealth is the node's request to run a replica's health check.
type CheckHealth struct {
	Replica  string  `json:"replica"`
	TimeoutS Seconds `json:"timeout_s"`
}

// CheckReady is the node's request to run a replica's readiness check: whether calls should be sent to it.
type CheckReady struct {
	Replica  string  `json:"replica"`
	TimeoutS Seconds `json:"timeout_s"`
}

// Reconfigure is the node's request to give a replica another user config. A replica that refuses it keeps the one before.
type Reconfigure struct {
	Replica    string          `json:"replica"`
	UserConfig json.RawMessage `json:"user_config,omitempty"`
	TimeoutS   Seconds         `json:"timeout_s"`
}

// SetRank is the node's request to a Python replica to have another rank, or another number of ranks. A replica whose method reconfigure takes
// a rank is given its user config again, with the rank.
type SetRank struct {
	Replica   string `json:"replica"`
	Rank      int    `json:"rank"`
	WorldSize int    `json:"world_size"`
}

// RoutingStats is the node's request for the values that a replica gives to a routing policy.
type RoutingStats struct {
	Replica  string  `json:"replica"`
	TimeoutS Seconds `json:"timeout_s"`
}

// AutoscalingStats is the node's request for the numbers that a replica gives to an autoscaling policy.
type AutoscalingStats struct {
	Replica  string  `json:"replica"`
	TimeoutS Seconds `json:"timeout_s"`
}

// Numbers are the numbers for an autoscaling policy, by name.
type Numbers struct {
	Numbers map[string]float64 `json:"numbers"`
}

// Stats are the values for a routing policy, a JSON object that the node passes on unread.
type Stats struct {
	Stats json.RawMessage `json:"stats"`
}

// LoadedModels is the node's request for the models that a replica has loaded. The replica is about to stop.
type LoadedModels struct {
	Replica string `json:"replica"`
}

// Loaded are the models that a replica has loaded.
type Loaded struct {
	Models []LoadedModel `json:"models"`
}

// LoadedModel is a model that a loader of a replica has loaded. A replica may have several loaders, each with models of its own; Loader is the same for the
// same loader of another replica.
type LoadedModel struct {
	Model   string  `json:"model"`
	Loader  string  `json:"loader"`
	UnusedS Seconds `json:"unused_s"` // since its last use; 0 for a model in use
}

// LoadModel is the node's request to load a model before a call asks for it, because another replica that has it stops. The reply comes when it is
// loaded; an error is that of the load. The model takes the place of no model that was used later than UnusedS ago.
type LoadModel struct {
	Replica  string  `json:"replica"`
	Model    string  `json:"model"`
	Loader   string  `json:"loader"`
	UnusedS  Seconds `json:"unused_s"`
	TimeoutS Seconds `json:"timeout_s"`
}

// ModelLoaded is the reply to [LoadModel].
type ModelLoaded struct {
	Refused string `json:"refused,omitempty"` // why the model was not loaded, for people; "" if it was
}

// Profile is the node's request for a profile of the worker's process. The worker takes one at a time, and answers when it is taken.
type Profile struct {
	Replica string  `json:"replica"`
	Kind    string  `json:"kind"`    // cpu, heap, stacks or block
	Seconds Seconds `json:"seconds"` // the time of the profile
}

// Profiled is a profile: a file of pprof from a Go worker, and stacks, which package profile reads, from a Python worker.
type Profiled struct {
	Pprof  []byte          `json:"pprof,omitempty"`
	Stacks json.RawMessage `json:"stacks,omitempty"`
	// Busy describes another profile that is being taken, which is why there is none.
	Busy string `json:"busy,omitempty"`
}

// EndProfile is the node's message that nobody waits for the profile that is being taken: it ends early.
type EndProfile struct {
	Replica string `json:"replica"`
}

// Ping is the node's request for a sign of life. Any reply is one.
type Ping struct{}

// GrantBlock is the node's request to a Go worker to use slots of one of its replicas for calls between its own replicas.
// Number orders the grants and recalls of one replica: a grant that is older than a recall that was handled is returned.
//
// Example: grant 1 of two slots, then recall 2. The worker handles 2 first, and returns both slots of grant 1 at once.
type GrantBlock struct {
	Replica string `json:"replica"`
	Number  uint64 `json:"number"`
	Slots   int    `json:"slots"`
}

// RecallBlock is the node's request to have all granted slots of a replica back. Slots in use follow with [ReturnBlock] as
// their calls end.
type RecallBlock struct {
	Replica string `json:"replica"`
	Number  uint64 `json:"number"`
}

// Recalled are the slots that no call used.
type Recalled struct {
	Slots int `json:"slots"`
}

// ReturnBlock is a worker's message that slots are free again: granted slots that were recalled, or that had no use for a
// while, and slots of calls that the worker executed for the node before.
type ReturnBlock struct {
	Replica string `json:"replica"`
	Slots   int    `json:"slots"`
}

// Faults is a worker's message that calls under granted slots of a replica, which the node does not see, have failed for a reason of the system, such as a
// deadline that has passed. Error describes the last of them.
type Faults struct {
	Replica string `json:"replica"`
	Calls   int    `json:"calls"`
	Error   string `json:"error"`
}

// Handover is the message of a node to a worker that the next node takes its place. The worker dials the next node at once, and describes itself
// as one that has lost its node does. It keeps the connection to this node, whose calls go on. Slots has the slots of each replica that this node
// still holds: the next node counts them as taken, until a [FreeBlock] says that one is free.
type Handover struct {
	Slots map[string]int `json:"slots"`
}

// FreeBlock is the message of a node that has handed over: slots of a replica that it does not hold any more. The worker tells the next node, by
// [ReturnBlock].
type FreeBlock struct {
	Replica string `json:"replica"`
	Slots   int    `json:"slots"`
}

// Uses is a worker's message that a replica of Deployment asked for a handle to the deployment Name. The graph of the
// application does not show such an edge.
type Uses struct {
	Deployment string `json:"deployment"`
	Name       string `json:"name"`
}

// Models is a worker's message about the models that a replica has or is loading, all of them. Changes that happen before
// the reply go together with the next one.
type Models struct {
	Replica string   `json:"replica"`
	Models  []string `json:"models"`
}

// Metrics is the report of a worker or driver on the metrics that its program has defined: the present values of the series that have changed.
// Number grows from report to report. Package telemetry reads Metrics.
type Metrics struct {
	Number  uint64          `json:"number"`
	Metrics json.RawMessage `json:"metrics"`
}

// Spans is the report of a worker on what took time in it and no node has seen: calls inside the worker, and spans of user code. Package trace reads Spans.
type Spans struct {
	Spans json.RawMessage `json:"spans"`
}

// Release gives back a slot that a call in the mode Reserve got. Lease is the number from its [HeldSlot].
type Release struct {
	Lease uint64 `json:"lease"`
}

// HeldSlot is the result of a call in the mode Reserve: a slot of a replica that is held until [Release].
type HeldSlot struct {
	Lease   uint64 `json:"lease"`
	Replica string `json:"replica,omitempty"`
	Node    string `json:"node,omitempty"`
}

// Status is a request for the state of all applications.
type Status struct{}

// Ingress is a request for the way into an application, or for one of its deployments.
type Ingress struct {
	App        string `json:"app"`
	Deployment string `json:"deployment,omitempty"` // "" for the ingress
}

// IngressMethod is the way into an application: a deployment, and for an ingress its method.
type IngressMethod struct {
	Deployment string `json:"deployment"`
	Method     string `json:"method"` // "" for the default one
	Language   string `json:"language"`
	// Methods are the methods that handles can call, as far as they are known: those of a Python class are when a replica of it was ready.
	Methods []Method `json:"methods,omitempty"`
}

// Deploy is a driver's request to deploy a Python application. The reply comes when every replica is ready, or, in the background, when
// the application is the target.
type Deploy struct {
	App        PythonApp `json:"app"`
	Background bool      `json:"background,omitempty"`
}

// PythonApp is a Python application as a driver describes it.
type PythonApp struct {
	Name        string             `json:"name"`
	RoutePrefix *string            `json:"route_prefix"` // nil for no route
	Ingress     string             `json:"ingress"`      // name of a deployment
	DocsPath    string             `json:"docs_path"`    // as in [spec.IngressSpec]
	Python      string             `json:"python"`       // path of the interpreter
	SysPath     []string           `json:"sys_path"`
	Dir         string             `json:"cwd"`
	Env         map[string]string  `json:"env"`
	RuntimeEnv  json.RawMessage    `json:"runtime_env"` // under that of each deployment: an object, or nil
	Blob        []byte             `json:"blob"`        // one pickle: deployment name to pickle of class and arguments
	Deployments []PythonDeployment `json:"deployments"`
	// Own are the entries of SysPath with modules of the program's own, which a node keeps if its applications outlive it.
	Own []string `json:"own,omitempty"`
	// Author is the user, the host and the process of the driver, and Program its file; both are for the history.
	Author  string `json:"author,omitempty"`
	Program string `json:"program,omitempty"`
	// EndsWithDriver says that the application is deleted when the connection of the driver ends.
	EndsWithDriver bool `json:"ends_with_driver,omitempty"`
}

// PythonDeployment is one deployment of a [PythonApp]: a class, or a deployment of a Go build.
type PythonDeployment struct {
	Name    string          `json:"name"`
	Class   string          `json:"class"`   // module:Class, to be shown
	Options json.RawMessage `json:"options"` // by the names that Python has for them
	Uses    []string        `json:"uses"`
	// CodeVersion is equal for two deploys of the same code with the same arguments; "" for code that is new in each deploy.
	CodeVersion string `json:"code_version"`
	// Go is set for a deployment of a Go build.
	Go *GoDeployment `json:"go,omitempty"`
}

// GoDeployment says which deployment of a Go build a deployment of a [PythonApp] is.
type GoDeployment struct {
	Build string `json:"build"` // path of the executable
	App   string `json:"app"`   // the application in it; "" for the only one
	Class string `json:"class"` // the deployment's name there
	Args  []byte `json:"args"`  // as in [Code]
}

// DeployBuild is a driver's request to deploy an application of a Go executable on the node's machine. The reply comes when every replica is
// ready. The workers run a copy of the executable.
type DeployBuild struct {
	Path string   `json:"path"` // of the executable
	App  string   `json:"app"`  // the application in it; "" for the only one
	Args []string `json:"args"`
	Env  []string `json:"env"` // of its workers, as NAME=VALUE
	Dir  string   `json:"cwd"`
}

// Deployed is the reply to [Deploy].
type Deployed struct {
	URL string `json:"url"` // as in [Address]
	// Left are paths of the program that a node whose applications outlive it does not keep: the application runs from there.
	Left []Left `json:"left,omitempty"`
	// Notices are warnings: of directories that the node keeps and that are unusually large, and of an application that belonged to a file.
	Notices []string `json:"notices,omitempty"`
	// Unchanged says that the application ran already as it was deployed now, and goes on.
	Unchanged bool `json:"unchanged,omitempty"`
}

// Left is a directory or file that a node has left where it is.
type Left struct {
	Path string `json:"path"`
	Why  string `json:"why"` // for people
}

// Address is where applications are reached over HTTP.
type Address struct {
	URL string `json:"url"` // "" without HTTP
}

// Delete is a driver's request to delete an application. The reply comes when it is gone.
type Delete struct {
	Name string `json:"name"`
}

// Scale is a driver's request to set the number of replicas of a deployment. The reply comes when the number is the target; the replicas
// follow.
type Scale struct {
	App        string `json:"app"`
	Deployment string `json:"deployment"`
	Replicas   *int   `json:"replicas"` // 0 or more
	Reason     string `json:"reason"`   // for people; may be ""
}

// Rollback is a driver's request to deploy an application again as a revision before has it. Revision 0 is the one that ran before the present one.
// The reply comes when every replica is ready.
type Rollback struct {
	App      string `json:"app"`
	Revision int    `json:"revision,omitempty"`
}

// Configure is a driver's request to give all replicas of a deployment another user config. The reply comes when they have it.
type Configure struct {
	App        string          `json:"app"`
	Deployment string          `json:"deployment"`
	UserConfig json.RawMessage `json:"user_config"`
}

// HTTP is a driver's request to serve HTTP, before its first [Deploy]. The options after the port may be absent; then those of the node hold.
type HTTP struct {
	Host             string   `json:"host"`
	Port             *int     `json:"port"` // nil for no HTTP
	RequestTimeout   *float64 `json:"request_timeout_s,omitempty"`
	KeepAliveTimeout *float64 `json:"keep_alive_timeout_s,omitempty"`
	RootPath         string   `json:"root_path,omitempty"`
	Certificate      string   `json:"ssl_certfile,omitempty"`
	Key              string   `json:"ssl_keyfile,omitempty"`
	KeyPassword      string   `json:"ssl_keyfile_password,omitempty"`
	ClientCA         string   `json:"ssl_ca_certs,omitempty"`
}

func (StartReplica) Op() string     { return "start_replica" }
func (Prepare) Op() string          { return "prepare" }
func (StopReplica) Op() string      { return "stop_replica" }
func (Drain) Op() string            { return "drain" }
func (CheckHealth) Op() string      { return "check_health" }
func (CheckReady) Op() string       { return "check_ready" }
func (Reconfigure) Op() string      { return "reconfigure" }
func (SetRank) Op() string          { return "set_rank" }
func (RoutingStats) Op() string     { return "routing_stats" }
func (AutoscalingStats) Op() string { return "autoscaling_stats" }
func (LoadedModels) Op() string     { return "loaded_models" }
func (LoadModel) Op() string        { return "load_model" }
func (Profile) Op() string          { return "profile" }
func (EndProfile) Op() string       { return "end_profile" }
func (Ping) Op() string             { return "ping" }
func (GrantBlock) Op() string       { return "grant_block" }
func (RecallBlock) Op() string      { return "recall_block" }
func (ReturnBlock) Op() string      { return "return_block" }
func (Faults) Op() string           { return "faults" }
func (Handover) Op() string         { return "handover" }
func (FreeBlock) Op() string        { return "free_block" }
func (Uses) Op() string             { return "uses" }
func (Models) Op() string           { return "models" }
func (Metrics) Op() string          { return "metrics" }
func (Spans) Op() string            { return "spans" }
func (Release) Op() string          { return "release" }
func (Status) Op() string           { return "status" }
func (Ingress) Op() string          { return "ingress" }
func (Deploy) Op() string           { return "deploy" }
func (DeployBuild) Op() string      { return "deploy_build" }
func (Delete) Op() string           { return "delete" }
func (Scale) Op() string            { return "scale" }
func (Rollback) Op() string         { return "rollback" }
func (Configure) Op() string        { return "configure" }
func (HTTP) Op() string             { return "http" }

func (StartReplica) Reply() (r Started)     { return }
func (Prepare) Reply() (r Done)             { return }
func (StopReplica) Reply() (r Done)         { return }
func (Drain) Reply() (r Done)               { return }
func (CheckHealth) Reply() (r Done)         { return }
func (CheckReady) Reply() (r Done)          { return }
func (Reconfigure) Reply() (r Done)         { return }
func (SetRank) Reply() (r Done)             { return }
func (RoutingStats) Reply() (r Stats)       { return }
func (AutoscalingStats) Reply() (r Numbers) { return }
func (LoadedModels) Reply() (r Loaded)      { return }
func (LoadModel) Reply() (r ModelLoaded)    { return }
func (Profile) Reply() (r Profiled)         { return }
func (EndProfile) Reply() (r Done)          { return }
func (Ping) Reply() (r Done)                { return }
func (GrantBlock) Reply() (r Done)          { return }
func (RecallBlock) Reply() (r Recalled)     { return }
func (ReturnBlock) Reply() (r Done)         { return }
func (Faults) Reply() (r Done)              { return }
func (Handover) Reply() (r Done)            { return }
func (FreeBlock) Reply() (r Done)           { return }
func (Uses) Reply() (r Done)                { return }
func (Models) Reply() (r Done)              { return }
func (Metrics) Reply() (r Done)             { return }
func (Spans) Reply() (r Done)               { return }
func (Release) Reply() (r Done)             { return }
func (Status) Reply() (r helvetype.Status)  { return }
func (Ingress) Reply() (r IngressMethod)    { return }
func (Deploy) Reply() (r Deployed)          { return }
func (DeployBuild) Reply() (r Address)      { return }
func (Delete) Reply() (r Done)              { return }
func (Scale) Reply() (r Done)               { return }
func (Rollback) Reply() (r Done)            { return }
func (Configure) Reply() (r Done)           { return }
func (HTTP) Reply() (r Address)             { return }

func (r StartReplica) check() (field, problem string) {
	if r.Deployment == "" {
		return "deployment", "is missing"
	}
	return needsReplica(r.Replica)
}
func (r StopReplica) check() (field, problem string) { return needsReplica(r.Replica) }
func (r Drain) check() (field, problem string)       { return needsReplica(r.Replica) }
func (r CheckHealth) check() (field, problem string) { return needsReplica(r.Replica) }
func (r CheckReady) check() (field, problem string)  { return needsReplica(r.Replica) }
func (r Reconfigure) check() (field, problem string) { return needsReplica(r.Replica) }
func (r SetRank) check() (field, problem string) {
	if r.Rank < 0 {
		return "rank", "is negative"
	}
	return needsReplica(r.Replica)
}
func (r RoutingStats) check() (field, problem string)     { return needsReplica(r.Replica) }
func (r AutoscalingStats) check() (field, problem string) { return needsReplica(r.Replica) }
func (r LoadedModels) check() (field, problem string)     { return needsReplica(r.Replica) }
func (r LoadModel) check() (field, problem string) {
	if r.Model == "" {
		return "model", "is missing"
	}
	return needsReplica(r.Replica)
}
func (r RecallBlock) check() (field, problem string) { return needsReplica(r.Replica) }
func (r Profile) check() (field, problem string)     { return needsReplica(r.Replica) }
func (r EndProfile) check() (field, problem string)  { return needsReplica(r.Replica) }
func (r Models) check() (field, problem string)      { return needsReplica(r.Replica) }

func (r GrantBlock) check() (field, problem string)  { return needsSlots(r.Replica, r.Slots) }
func (r ReturnBlock) check() (field, problem string) { return needsSlots(r.Replica, r.Slots) }

func (r Faults) check() (field, problem string) {
	if r.Calls < 0 {
		return "calls", "is negative"
	}
	return needsReplica(r.Replica)
}
func (r FreeBlock) check() (field, problem string) { return needsSlots(r.Replica, r.Slots) }
func (r Handover) check() (field, problem string) {
	for id, n := range r.Slots {
		if field, problem := needsSlots(id, n); problem != "" {
			return field, problem
		}
	}
	return "", ""
}

func needsSlots(replica string, slots int) (field, problem string) {
	if slots < 0 {
		return "slots", "is negative"
	}
	return needsReplica(replica)
}

func (r Scale) check() (field, problem string) {
	switch {
	case r.App == "":
		return "app", "is missing"
	case r.Deployment == "":
		return "deployment", "is missing"
	case r.Replicas == nil:
		return "replicas", "is missing"
	}
	return "", ""
}

func (r Rollback) check() (field, problem string) {
	switch {
	case r.App == "":
		return "app", "is missing"
	case r.Revision < 0:
		return "revision", "is negative"
	}
	return "", ""
}

func (r DeployBuild) check() (field, problem string) {
	if r.Path == "" {
		return "path", "is missing"
	}
	return "", ""
}

func (r Configure) check() (field, problem string) {
	switch {
	case r.App == "":
		return "app", "is missing"
	case r.Deployment == "":
		return "deployment", "is missing"
	case len(r.UserConfig) == 0:
		return "user_config", "is missing"
	}
	return "", ""
}

func (r Uses) check() (field, problem string) {
	switch "" {
	case r.Deployment:
		return "deployment", "is missing"
	case r.Name:
		return "name", "is missing"
	}
	return "", ""
}
