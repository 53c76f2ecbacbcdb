package helvetype

import (
	"encoding/json"
	"time"
)

// Role says what an author may do. Each role may do all that the roles before it may.
type Role string

// The roles.
const (
	// RoleRead may read the status, events, logs, configurations and plans.
	RoleRead Role = "read"
	// RoleOperate may also scale, restart replicas, pause, resume and roll back.
	RoleOperate Role = "operate"
	// RoleDeploy may also deploy, delete and shut down. An author with this role can run code on the node.
	RoleDeploy Role = "deploy"
)

// Author is the person or program that asks for an operation. The audit log and the history of an application have it.
type Author struct {
	// Name is the name of the token, or of the user of the operating system.
	Name string `json:"name"`
	// Role is what the author may do.
	Role Role `json:"role"`
	// Via is the way in which the operation came: "rest", "socket" or "driver".
	Via string `json:"via"`
	// Address is the address of the client, where there is one.
	Address string `json:"address,omitempty"`
}

// ApplyRequest asks a node to run the applications of a file.
type ApplyRequest struct {
	// Config is the file: YAML, or JSON, which is YAML too.
	Config string `json:"config"`
	// Name is the name of the file for errors and the history, for example "serve.yaml".
	Name string `json:"name,omitempty"`
	// Source names the writer of the file. An apply deletes the applications that an apply of the same source has deployed and that the file does
	// not have. For example, two teams deploy their own files with the sources "search" and "chat". "" is the source "default".
	Source string `json:"source,omitempty"`
	// Keep says that applications that the file does not have stay.
	Keep bool `json:"keep,omitempty"`
	// Only names one application of the file; the others are left as they are. "" is all of them.
	Only string `json:"only,omitempty"`
	// Dir is the directory, on the machine of the node, from which the modules of import paths are imported. "" is the directory of the node.
	Dir string `json:"dir,omitempty"`
	// Python is the interpreter, on the machine of the node, for applications in Python. "" is the node's own.
	Python string `json:"python,omitempty"`
	// Message is a note of the author for the history.
	Message string `json:"message,omitempty"`
	// Wait says that the answer comes when every application runs or has failed, and not when the node has taken the file.
	Wait bool `json:"wait,omitempty"`
	// If is the generation that the author has seen; 0 for any. A node whose generation is another one refuses the request.
	If uint64 `json:"if,omitempty"`
}

// ApplyAnswer says what has become of the applications of a file.
type ApplyAnswer struct {
	// Generation is the generation of the target after the request.
	Generation uint64 `json:"generation"`
	// Applications has the outcome of each application by its name.
	Applications map[string]Outcome `json:"applications"`
	// Warnings are about fields that have no effect.
	Warnings []string `json:"warnings,omitempty"`
}

// Outcome is what has become of one application.
type Outcome struct {
	// Change is "created", "changed", "unchanged" or "deleted".
	Change string `json:"change"`
	// Revision is the revision that should run; 0 for a deleted application.
	Revision int `json:"revision,omitempty"`
	// Error is why the application does not run, with a request that waits.
	Error string `json:"error,omitempty"`
}

// Plan says what an apply, a rollback or another change would do, without doing it.
type Plan struct {
	// Generation is the generation of the target that the plan was made from.
	Generation uint64 `json:"generation"`
	// Applications are the applications that are concerned, sorted by name.
	Applications []ApplicationPlan `json:"applications"`
	// Settings are the changes of the settings of the node, such as http_options.
	Settings []ValueChange `json:"settings,omitempty"`
	// Warnings are about fields that have no effect.
	Warnings []string `json:"warnings,omitempty"`
}

// ApplicationPlan is the plan of one application.
type ApplicationPlan struct {
	Name string `json:"name"`
	// Change is "created", "changed", "unchanged" or "deleted".
	Change string `json:"change"`
	// Fields are the changes of the options of the application itself.
	Fields []ValueChange `json:"fields,omitempty"`
	// Deployments are sorted by name.
	Deployments []DeploymentPlan `json:"deployments"`
}

// DeploymentPlan is the plan of one deployment.
type DeploymentPlan struct {
	Name string `json:"name"`
	// Change is "created", "changed", "unchanged" or "deleted".
	Change string `json:"change"`
	// Update is what happens to the replicas that run: "nothing", "in place", "new replicas" or "new application".
	Update string `json:"update"`
	// Reason is why, for example "the code has changed".
	Reason string `json:"reason,omitempty"`
	// Options are the options that change.
	Options []ValueChange `json:"options,omitempty"`
	// Replicas is the number of replicas that run now, Wanted the number of the target now, and Next the number after the change. Submitted is
	// the number of the file or the code; it differs from Next where the deployment was scaled since.
	Replicas  int `json:"replicas"`
	Wanted    int `json:"wanted"`
	Next      int `json:"next"`
	Submitted int `json:"submitted"`
	// ScaledBy says who has set Wanted, and why, if it was not a deploy.
	ScaledBy string `json:"scaled_by,omitempty"`
	// Surge is the number of replicas that a rollout starts beside Next, and Unavailable the number that may be missing meanwhile.
	Surge       int `json:"surge"`
	Unavailable int `json:"unavailable"`
	// Fit is "" if the replicas fit the machine, else the sentence that says what is missing.
	Fit string `json:"fit,omitempty"`
}

// ValueChange is a value that differs.
type ValueChange struct {
	// Path is the path of the option, for example "ray_actor_options.num_gpus".
	Path string `json:"path"`
	// Update is what the change needs: "nothing", "in place", "new replicas" or "new application".
	Update string `json:"update"`
	// Before and After are JSON; null for no value. A secret is "***".
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
	// BeforeFrom and AfterFrom say where the values come from: "default", "code", "file" or "override".
	BeforeFrom string `json:"before_from,omitempty"`
	AfterFrom  string `json:"after_from,omitempty"`
}

// History has the revisions of an application that are kept, the newest first.
type History struct {
	App       string          `json:"app"`
	Revisions []RevisionEntry `json:"revisions"`
}

// RevisionEntry is one revision of an application.
type RevisionEntry struct {
	Number int       `json:"number"`
	At     time.Time `json:"at"`
	// By is the name of the author, From the file or the directory it came from, and Source the source of an apply ("" for a program).
	By      string `json:"by,omitempty"`
	From    string `json:"from,omitempty"`
	Source  string `json:"source,omitempty"`
	Message string `json:"message,omitempty"`
	// State is "running", "starting", "paused", "retired" (it ran before), "failed" or "superseded" (another deploy came before it ran).
	State string `json:"state"`
	// Reason is why a revision failed, with the counts of an automatic rollback.
	Reason string `json:"reason,omitempty"`
	// RollbackOf is the revision that this one repeats; 0 for none.
	RollbackOf int `json:"rollback_of,omitempty"`
	// Changes has a line for each deployment that differs from the revision before, for example "Ranker: new replicas (version)".
	Changes []string `json:"changes,omitempty"`
}

// Rollout is the state of the change of an application from one revision to another. It is in [ApplicationStatus] while there is one.
type Rollout struct {
	From int `json:"from"`
	To   int `json:"to"`
	// State is "going", "paused", "waiting" (a step waits for its time), "watching" (all replicas are new, the error rate is watched) or "rolling back".
	State string `json:"state"`
	// Message says what it waits for, and what comes next and when.
	Message string `json:"message"`
	// Step is the number of the step, from 1, and Steps the number of steps; 0 without steps.
	Step  int `json:"step,omitempty"`
	Steps int `json:"steps,omitempty"`
	// StartedAt is the time of its begin, and Deadline that at which it is given up if no replica becomes ready before.
	StartedAt time.Time `json:"started_at"`
	Deadline  time.Time `json:"deadline,omitzero"`
	// New and Old count calls of the new and the old revision in the window of the error rate.
	New CallWindow `json:"new"`
	Old CallWindow `json:"old"`
}

// CallWindow counts calls that ended within a window of time.
type CallWindow struct {
	Calls    uint64 `json:"calls"`
	Failures uint64 `json:"failures"`
}

// EffectiveConfig has the configuration of an application with all defaults, and the source of each value.
type EffectiveConfig struct {
	App      string `json:"app"`
	Revision int    `json:"revision"`
	// Submitted is the configuration as it was submitted; null for an application that a program has deployed.
	Submitted json.RawMessage `json:"submitted"`
	// Fields are the options of the application, and Deployments those of each deployment by its name, in the order of the tables.
	Fields      []EffectiveValue            `json:"fields"`
	Deployments map[string][]EffectiveValue `json:"deployments"`
}

// EffectiveValue is the value of one option.
type EffectiveValue struct {
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"` // a secret is "***"
	From  string          `json:"from"`  // "default", "code", "file" or "override"
	// Update is what a change of the option needs: "nothing", "in place", "new replicas" or "new application".
	Update string `json:"update"`
}

// Explanation answers the question why an object is as it is.
type Explanation struct {
	Object Object `json:"object"`
	// Sentence is the answer in one sentence.
	Sentence string `json:"sentence"`
	// Next is what will be tried next and when; "" for nothing.
	Next string `json:"next,omitempty"`
	// Timeline has the events that led there, the oldest first.
	Timeline []Event `json:"timeline"`
}

// LogLine is a line that a replica, or the node, has written.
type LogLine struct {
	Time       time.Time `json:"time"`
	App        string    `json:"app,omitempty"`
	Deployment string    `json:"deployment,omitempty"`
	Replica    string    `json:"replica,omitempty"`
	Text       string    `json:"text"`
}

// AuditEntry is one change that an author has asked for.
type AuditEntry struct {
	At        time.Time `json:"at"`
	Author    Author    `json:"author"`
	Operation string    `json:"operation"` // for example "scale"
	Object    string    `json:"object"`    // for example "shop/Ranker"
	Detail    string    `json:"detail,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// LogQuery chooses lines of logs.
type LogQuery struct {
	// App, Deployment and Replica choose the writer; "" is for all.
	App        string `json:"app,omitempty"`
	Deployment string `json:"deployment,omitempty"`
	Replica    string `json:"replica,omitempty"`
	// Tail is the number of the newest lines to begin with; 0 for all that are kept, less than 0 for none.
	Tail int `json:"tail,omitempty"`
	// Follow says that lines to come are wanted too, until the reader ends.
	Follow bool `json:"follow,omitempty"`
}

// NodeSettings are the settings of a node that files set: the fields of a file beside its applications, with the names of Ray Serve.
type NodeSettings struct {
	ProxyLocation  string          `json:"proxy_location"`
	HTTPOptions    json.RawMessage `json:"http_options"`
	LoggingConfig  json.RawMessage `json:"logging_config"`
	TargetCapacity *float64        `json:"target_capacity"`
}
