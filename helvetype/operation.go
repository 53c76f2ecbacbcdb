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
	// Role is what the author may do; empty for the author of a request that was refused for its token.
	Role Role `json:"role,omitempty"`
	// Via is the way in which the operation came: "rest", "socket" or "driver".
	Via string `json:"via"`
	// Address is the address of the client, where there is one.
	Address string `json:"address,omitempty"`
	// Seen is the generation that the author has seen; 0 for any. A change by an author who has seen another generation than the present one is refused.
	Seen uint64 `json:"-"`
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
	// Element says that Config is not a file, but one element of its list applications: that of the application Only.
	Element bool `json:"-"`
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
	// Settings are the changes of the settings of the node, such as target_capacity, which acts on all its applications.
	Settings []ValueChange `json:"settings,omitempty"`
	// Warnings are about fields that have no effect, or hardly the effect that is meant.
	Warnings []string `json:"warnings,omitempty"`
}

// Outcome is what has become of one application.
type Outcome struct {
	// Change is "created", "changed", "unchanged", "deleted" or "refused".
	Change string `json:"change"`
	// Revision is the revision that should run; 0 for a deleted application.
	Revision int `json:"revision,omitempty"`
	// Reason says which part of the change had nothing to do, for example an override to clear that is not there; "" for none.
	Reason string `json:"reason,omitempty"`
	// Warnings are about options that have no effect, or hardly the effect that is meant, after a change of options or a rollback. The warnings of an apply are in [ApplyAnswer].
	Warnings []string `json:"warnings,omitempty"`
	// Error is why the application was refused, or, with a request that waits, why it does not run; "" for neither.
	Error string `json:"error,omitempty"`
	// Code classifies Error. For example, CodeInvalidArgument is a mistake in the file, CodeAborted is another deploy that took the place of this one, and
	// CodeUnknown is an application that does not run.
	Code Code `json:"code,omitempty"`
	// Next is the command or the change to try after the error; "" for none.
	Next string `json:"next,omitempty"`
}

// Plan says what an apply, a rollback or another change would do, without doing it.
type Plan struct {
	// Generation is the generation of the target that the plan was made from.
	Generation uint64 `json:"generation"`
	// Applications are the applications that are concerned, sorted by name.
	Applications []ApplicationPlan `json:"applications"`
	// Settings are the changes of the settings of the node, such as http_options.
	Settings []ValueChange `json:"settings,omitempty"`
	// Capacity has the deployments of other applications whose number of replicas or bounds change by another target capacity, sorted by application and name.
	Capacity []CapacityChange `json:"capacity,omitempty"`
	// Warnings are about fields that have no effect, or hardly the effect that is meant.
	Warnings []string `json:"warnings,omitempty"`
}

// CapacityChange is what another target capacity of the node does to a deployment whose application does not change otherwise.
type CapacityChange struct {
	// App is the application.
	App string `json:"app"`
	// Deployment is the deployment.
	Deployment string `json:"deployment"`
	// Wanted is the number of replicas of the target now.
	Wanted int `json:"wanted"`
	// Next is the number of replicas of the target after the change.
	Next int `json:"next"`
	// Autoscaler has the bounds of its autoscaler now and then; nil for a deployment without one.
	Autoscaler *AutoscalerPlan `json:"autoscaler,omitempty"`
}

// ApplicationPlan is the plan of one application.
type ApplicationPlan struct {
	// Name is the name of the application.
	Name string `json:"name"`
	// Change is "created", "changed", "unchanged" or "deleted".
	Change string `json:"change"`
	// Reason is why a change makes a revision that leaves all options and replicas as they are, for example "a rollback is a revision of its own".
	Reason string `json:"reason,omitempty"`
	// Notes are what else the change means: the revision that a rollback repeats, the rollout that the change ends, and the failure of the deploy before.
	Notes []string `json:"notes,omitempty"`
	// Fields are the changes of the options of the application itself.
	Fields []ValueChange `json:"fields,omitempty"`
	// Deployments are sorted by name.
	Deployments []DeploymentPlan `json:"deployments"`
}

// DeploymentPlan is the plan of one deployment.
type DeploymentPlan struct {
	// Name is the name of the deployment.
	Name string `json:"name"`
	// Change is "created", "changed", "unchanged" or "deleted".
	Change string `json:"change"`
	// Update is what happens to the replicas that run: "nothing", "in place", "new replicas" or "new application".
	Update string `json:"update"`
	// Reason is why, for example "the code has changed".
	Reason string `json:"reason,omitempty"`
	// Options are the options that change.
	Options []ValueChange `json:"options,omitempty"`
	// Overrides are the options for which an override holds (helve set): Before is the value of the file, else of the code, else the default, and After the override. They
	// stay over the change.
	Overrides []ValueChange `json:"overrides,omitempty"`
	// Replicas is the number of replicas that run now.
	Replicas int `json:"replicas"`
	// Wanted is the number of the target now.
	Wanted int `json:"wanted"`
	// Next is the number of the target after the change.
	Next int `json:"next"`
	// Submitted is the number of the options after the change; it differs from Next where the deployment was scaled since.
	Submitted int `json:"submitted"`
	// SubmittedFrom says where Submitted comes from: "default", "code", "file" or "override".
	SubmittedFrom string `json:"submitted_from,omitempty"`
	// ScaledBy says who has set Wanted, and why, if it was neither a deploy nor the autoscaler.
	ScaledBy string `json:"scaled_by,omitempty"`
	// Autoscaler is the autoscaler of the deployment before and after the change; nil for a deployment that never has one.
	Autoscaler *AutoscalerPlan `json:"autoscaler,omitempty"`
	// Surge is the number of replicas that a rollout starts beside Next.
	Surge int `json:"surge"`
	// NoSurge is the sentence that says what is missing for a larger Surge, and which replicas hold it; "" where the machine has room for max_surge.
	NoSurge string `json:"no_surge,omitempty"`
	// Unavailable is the number of replicas that may be missing meanwhile.
	Unavailable int `json:"unavailable"`
	// Fit is "" if the replicas fit the machine, else the sentence that says what is missing.
	Fit string `json:"fit,omitempty"`
}

// AutoscalerPlan is the autoscaler of a deployment before and after a change.
type AutoscalerPlan struct {
	// Before are its bounds now; nil for a deployment without an autoscaler.
	Before *ReplicaBounds `json:"before,omitempty"`
	// After are its bounds after the change; nil for a deployment without an autoscaler then.
	After *ReplicaBounds `json:"after,omitempty"`
	// Replaces is the number of replicas of the code or the file (num_replicas) that an override of autoscaling_config takes the place of; 0 for none.
	Replaces int `json:"replaces,omitempty"`
	// ReplacesFrom says where Replaces comes from: "code" or "file".
	ReplacesFrom string `json:"replaces_from,omitempty"`
	// Decision is the reason of the decision that has set the number that is wanted now; "" for a number of a deploy.
	Decision string `json:"decision,omitempty"`
}

// ReplicaBounds are the least and the largest number of replicas of an autoscaler, at the target capacity.
type ReplicaBounds struct {
	// Least is min_replicas, or initial_replicas while the target capacity rises.
	Least int `json:"least"`
	// Most is max_replicas.
	Most int `json:"most"`
}

// ValueChange is a value that differs.
type ValueChange struct {
	// Path is the path of the option, for example "ray_actor_options.num_gpus".
	Path string `json:"path"`
	// Update is what the change needs: "nothing", "in place", "new replicas" or "new application"; for a setting of the node "in place", or "start of the node" if it
	// holds when an operator starts the node with other flags.
	Update string `json:"update"`
	// Before is the value before, as JSON; null for no value. A secret is "***".
	Before json.RawMessage `json:"before"`
	// After is the value after the change.
	After json.RawMessage `json:"after"`
	// BeforeFrom says where the value before comes from: "default", "code", "file" or "override".
	BeforeFrom string `json:"before_from,omitempty"`
	// AfterFrom says where the value after the change comes from.
	AfterFrom string `json:"after_from,omitempty"`
}

// History has the revisions of an application that are kept, the newest first.
type History struct {
	// App is the name of the application.
	App string `json:"app"`
	// Revisions are the revisions, the newest first.
	Revisions []RevisionEntry `json:"revisions"`
	// FailedDeploy is the newest deploy, if it has changed nothing and made no revision, as in [ApplicationStatus].
	FailedDeploy *FailedDeploy `json:"failed_deploy,omitempty"`
}

// RevisionEntry is one revision of an application.
type RevisionEntry struct {
	// Number is the number of the revision, from 1.
	Number int `json:"number"`
	// At is the time when it was submitted.
	At time.Time `json:"at"`
	// By is the name of the author.
	By string `json:"by,omitempty"`
	// From is the file or the directory that it came from.
	From string `json:"from,omitempty"`
	// Source is the source of an apply; "" for a program.
	Source string `json:"source,omitempty"`
	// Message is the note of the author.
	Message string `json:"message,omitempty"`
	// State is "running", "starting", "paused", "retired" (it ran before), "failed" or "superseded" (another deploy came before it ran).
	State string `json:"state"`
	// Reason is why a revision failed, with the counts of an automatic rollback.
	Reason string `json:"reason,omitempty"`
	// RollbackOf is the revision that this one repeats; 0 for none.
	RollbackOf int `json:"rollback_of,omitempty"`
	// Before is the revision that ran when this one was deployed; 0 for none, and for one that is not kept any more.
	Before int `json:"before,omitempty"`
	// Changes has a line for each deployment that differs from revision Before, for example "Ranker: new replicas (version)".
	Changes []string `json:"changes,omitempty"`
}

// Rollout is the state of the change of an application from one revision to another. It is in [ApplicationStatus] while there is one.
type Rollout struct {
	// From is the number of the old revision.
	From int `json:"from"`
	// To is the number of the new revision.
	To int `json:"to"`
	// State is "going", "paused", "waiting" (a step waits for its time), "watching" (all replicas are new, the error rate is watched) or "rolling back".
	State string `json:"state"`
	// Message says what it waits for, and what comes next and when.
	Message string `json:"message"`
	// Step is the number of the step, from 1; 0 without steps, and when all replicas are new.
	Step int `json:"step,omitempty"`
	// Steps is the number of steps.
	Steps int `json:"steps,omitempty"`
	// StartedAt is the time of its begin.
	StartedAt time.Time `json:"started_at"`
	// Since is the time since which it is in its state.
	Since time.Time `json:"since"`
	// Deadline is the time at which it is given up if no replica becomes ready before.
	Deadline time.Time `json:"deadline,omitzero"`
	// New counts calls of the new revision in the window of the error rate.
	New CallWindow `json:"new"`
	// Old counts calls of the old revision in the same window.
	Old CallWindow `json:"old"`
}

// CallWindow counts calls that ended within a window of time.
type CallWindow struct {
	// Calls is the number of calls.
	Calls uint64 `json:"calls"`
	// Failures is the number of those that failed.
	Failures uint64 `json:"failures"`
}

// EffectiveConfig has the configuration of an application with all defaults, and the source of each value.
type EffectiveConfig struct {
	// App is the name of the application.
	App string `json:"app"`
	// Revision is the number of the revision that should run.
	Revision int `json:"revision"`
	// Submitted is the configuration as it was submitted; null for an application that a program has deployed.
	Submitted json.RawMessage `json:"submitted"`
	// Fields are the options of the application, in the order of docs/options.md.
	Fields []EffectiveValue `json:"fields"`
	// Deployments are the options of each deployment by its name.
	Deployments map[string][]EffectiveValue `json:"deployments"`
}

// EffectiveValue is the value of one option.
type EffectiveValue struct {
	// Path is the path of the option, for example "ray_actor_options.num_gpus".
	Path string `json:"path"`
	// Value is the value as JSON; a secret is "***".
	Value json.RawMessage `json:"value"`
	// From is "default", "code", "file" or "override".
	From string `json:"from"`
	// Unused says why the value has no effect, for example num_replicas of a deployment with an autoscaling_config; "" for one that has.
	Unused string `json:"unused,omitempty"`
	// Update is what a change of the option needs: "nothing", "in place", "new replicas" or "new application".
	Update string `json:"update"`
	// About says what the option means, in Markdown; links are relative to the directory docs.
	About string `json:"about"`
}

// Explanation answers the question why an object is as it is.
type Explanation struct {
	// Object is the object of the question.
	Object Object `json:"object"`
	// Sentence is the answer in one sentence.
	Sentence string `json:"sentence"`
	// Detail has the lines of the error that the sentence has no room for, such as a traceback, or the last lines that a process wrote to stderr; "" for none.
	Detail string `json:"detail,omitempty"`
	// Next is what will be tried next and when, or the command that comes next; "" for nothing.
	Next string `json:"next,omitempty"`
	// Timeline has the events that led there, the oldest first.
	Timeline []Event `json:"timeline"`
}

// Overview says what is wrong in a node now.
type Overview struct {
	// Sentence says how much is wrong, with the numbers of applications, replicas and calls.
	Sentence string `json:"sentence"`
	// Troubles has the worst first; it is empty if all is well.
	Troubles []Trouble `json:"troubles"`
}

// Trouble is an application that is not as it should be.
type Trouble struct {
	// Object is the application.
	Object Object `json:"object"`
	// Sentence is the answer in one sentence, as in the [Explanation] of the object.
	Sentence string `json:"sentence"`
	// Next is what will be tried next and when, or the command that comes next; "" for nothing.
	Next string `json:"next,omitempty"`
}

// LogLine is a record that a replica, or the node, has logged, or a line that a replica has printed. It is the one shape of logs: in the answers of the
// node, and in its output as JSON.
type LogLine struct {
	// Time is the time of the record; of a line whose writer states none, the time when the node read it.
	Time time.Time `json:"time"`
	// Level is DEBUG, INFO, WARN or ERROR.
	Level string `json:"level"`
	// App is the application of the replica; "" for the node.
	App string `json:"app,omitempty"`
	// Deployment is the deployment of the replica.
	Deployment string `json:"deployment,omitempty"`
	// Replica is the id of the replica.
	Replica string `json:"replica,omitempty"`
	// Request is the id of the request that was served; "" outside of requests, and where it is not known.
	Request string `json:"request_id,omitempty"`
	// Trace is the id of the trace of the request, in hex.
	Trace string `json:"trace_id,omitempty"`
	// Stream is stdout or stderr for text that was printed; "" for records of a logger.
	Stream string `json:"stream,omitempty"`
	// Logger is the name of the logger.
	Logger string `json:"logger,omitempty"`
	// Text is the message, without a newline at its end. It has several lines where the record has, for example for a traceback.
	Text string `json:"message"`
	// Attributes are the attributes of the record, as text.
	Attributes map[string]string `json:"attributes,omitempty"`
}

// AuditEntry is one change that an author has asked for.
type AuditEntry struct {
	// At is the time of the change.
	At time.Time `json:"at"`
	// Author is the person or program that has asked for it.
	Author Author `json:"author"`
	// Operation is the operation, for example "scale".
	Operation string `json:"operation"`
	// Object is the object, for example "shop/Ranker".
	Object string `json:"object"`
	// Detail is the change in words; a secret is "***".
	Detail string `json:"detail,omitempty"`
	// Error is why it was refused or failed.
	Error string `json:"error,omitempty"`
}

// LogQuery chooses lines of logs.
type LogQuery struct {
	// App is the application of the writer; "" for all.
	App string `json:"app,omitempty"`
	// Deployment is the deployment of the writer; "" for all.
	Deployment string `json:"deployment,omitempty"`
	// Replica is the id of the writer; "" for all.
	Replica string `json:"replica,omitempty"`
	// Request is the id of the request; "" for all.
	Request string `json:"request_id,omitempty"`
	// Level is the lowest level: DEBUG, INFO, WARN or ERROR; "" for all.
	Level string `json:"level,omitempty"`
	// Since is the time of the first line; zero for no bound.
	Since time.Time `json:"since,omitzero"`
	// Until is the time after which no line is wanted; zero for no bound.
	Until time.Time `json:"until,omitzero"`
	// Text is a part of the message, or of the value of an attribute, in letters of any case; "" for all.
	Text string `json:"text,omitempty"`
	// Tail is the number of the newest lines to begin with; 0 for all that are kept, less than 0 for none.
	Tail int `json:"tail,omitempty"`
	// Follow says that lines to come are wanted too, until the reader ends.
	Follow bool `json:"follow,omitempty"`
	// Access asks for lines of the access log of HTTP in place of those of replicas.
	Access bool `json:"access,omitempty"`
}

// NodeSettings are the settings of a node that files set: the fields of a file beside its applications, with the names of Ray Serve.
type NodeSettings struct {
	// ProxyLocation says on which nodes requests of HTTP are taken. A node of its own has one place for it.
	ProxyLocation string `json:"proxy_location"`
	// HTTPOptions are the options of HTTP, as JSON.
	HTTPOptions json.RawMessage `json:"http_options"`
	// LoggingConfig is what is logged, as JSON.
	LoggingConfig json.RawMessage `json:"logging_config"`
	// TracingConfig says which requests are sampled, and which are slow, as JSON.
	TracingConfig json.RawMessage `json:"tracing_config"`
	// TargetCapacity is the percentage of all numbers of replicas that runs; null for 100.
	TargetCapacity *float64 `json:"target_capacity"`
}
