package admin

import (
	"net/http"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/profile"
	"github.com/helve-serve/helve/internal/rest"
)

// route is one method of one path. The handler, the checks before it, the list of paths and the OpenAPI document come from it.
type route struct {
	method string
	// path is a pattern of http.ServeMux. A path that ends with a slash is exact.
	path string
	// operation names the route in the OpenAPI document, and in the audit log if it changes something.
	operation string
	// role is the least role of an author who may.
	role helvetype.Role
	// private says that a request over the loopback interface needs a token too, although it reads: the lines of replicas may be of their users, and a
	// profile slows the node down.
	private bool
	// changes says that the route changes the target: it takes If-Match, and has an entry in the audit log.
	changes bool
	about   string
	query   []param
	// anyQuery leaves the query to the handler.
	anyQuery bool
	// body is a value of the type of the body; nil for a route without one, and a [document] for one that the handler reads itself.
	body any
	// optional says that the body may be left out.
	optional bool
	// answer is a value of the type of the answer; a [media] for one that is not JSON.
	answer any
	serve  func(a *Server, c *ask)
}

// param is a parameter of the query.
type param struct {
	name string
	// kind is "string", "integer" or "boolean".
	kind  string
	about string
	// min and max bound an integer with a max.
	min, max int
	// words are the values that a string may have; nil for any.
	words []string
}

// media are the content types of an answer that is not JSON, or of a stream beside JSON.
type media []string

// document is a body that is a file of an operator: its content types.
type document []string

// The bodies of requests.
type (
	// scaleBody is the reference's, with a note of the author.
	scaleBody struct {
		TargetNumReplicas int    `json:"target_num_replicas" min:"0"`
		Message           string `json:"message,omitempty"`
	}
	rollbackBody struct {
		// Revision is 0 for the one before the present one.
		Revision int    `json:"revision,omitempty" min:"0"`
		Message  string `json:"message,omitempty"`
	}
	profilingBody struct {
		Continuous bool `json:"continuous"`
	}
	tokenBody struct {
		Name string         `json:"name"`
		Role helvetype.Role `json:"role"`
	}
)

const (
	appPath        = "/api/v1/applications/{app}"
	deploymentPath = appPath + "/deployments/{deployment}"
)

//nolint:gochecknoglobals // constants
var (
	requestParams = []param{{name: "app", kind: "string"}, {name: "kept", kind: "string", words: []string{helvetype.KeptFailed, helvetype.KeptSlow, helvetype.KeptSampled}, about: "requests that are kept for this reason; sampled has all sampled requests, also those that have failed or were slow"}, {name: "status", kind: "integer", max: 999}, {name: "longer_than_ms", kind: "integer", max: 1 << 30}, {name: "limit", kind: "integer", min: 1, max: eventLimit}}
	eventParams   = []param{
		{name: "after", kind: "integer", about: "events with an id above this one, from the oldest"},
		{name: "limit", kind: "integer", min: 1, max: eventLimit, about: "at most so many"},
		{name: "follow", kind: "boolean", about: "the answer does not end: the events to come follow"},
		{name: "kind", kind: "string", words: []string{helvetype.KindApplication, helvetype.KindDeployment, helvetype.KindReplica, helvetype.KindNode}, about: "events of objects of this kind"},
		{name: "app", kind: "string"}, {name: "deployment", kind: "string"}, {name: "replica", kind: "string"},
	}
	callParams  = []param{{name: "limit", kind: "integer", min: 1, max: callsMax}, {name: "app", kind: "string"}, {name: "deployment", kind: "string"}, {name: "replica", kind: "string", about: "calls that this replica executes, and broadcasts that wait for it"}}
	applyParams = []param{
		{name: "source", kind: "string", about: "the writer of the file; an apply deletes applications of its own source only"},
		{name: "message", kind: "string", about: "a note for the history"},
		{name: "wait", kind: "boolean", about: "answer when all applications run or have failed"},
	}
	sources = []param{{name: "api_type", kind: "string", words: []string{details.Imperative, details.Declarative}, about: "applications that programs have deployed, or that files have; without it all"}}
	streams = media{"application/json", "application/jsonl", "text/event-stream"}
	texts   = media{"text/plain", "application/openmetrics-text"}
	files   = document{"application/json", "application/yaml"}
	element = document{"application/json"} // of the list applications of a file
)

// routes is the table of all routes. The reference has the paths below /api/serve, /api/ray, and the scale of a deployment.
func routes() []route {
	const read, operate, deploy = helvetype.RoleRead, helvetype.RoleOperate, helvetype.RoleDeploy
	get, put, post, patch, remove := http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete
	return []route{
		{method: get, path: "/", operation: "about", role: read, answer: rest.About{}, serve: (*Server).about, about: "Which node this is"},
		{
			method: get, path: "/api/v1/whoami", operation: "whoami", role: read, answer: rest.Who{}, serve: (*Server).whoami,
			about: "The name and the role of the author of this request, by its token or the way it came",
		},
		{method: get, path: "/openapi.json", operation: "openapi", role: read, answer: map[string]any{}, serve: (*Server).openAPI, about: "This document"},

		{method: get, path: "/api/ray/version", operation: "ray_version", role: read, answer: RayVersion{}, serve: (*Server).rayVersion, about: "The version of Ray whose clients the node serves"},
		{
			method: get, path: "/api/serve/applications/", operation: "get_serve_instance_details", role: read, answer: details.Instance{}, serve: (*Server).applications,
			query: sources,
			about: "The state of the node and of all applications: the reference's ServeInstanceDetails",
		},
		{
			method: put, path: "/api/serve/applications/", operation: "apply", role: deploy, changes: true, body: files, answer: helvetype.ApplyAnswer{}, serve: (*Server).putAll,
			query: applyParams, about: "Make the applications of a file the target. Applications that a file of the same source had, and this one does not have, are deleted",
		},
		{method: remove, path: "/api/serve/applications/", operation: "shutdown", role: deploy, changes: true, answer: rest.Done{}, serve: (*Server).shutdown, about: "Delete all applications"},
		{
			method: post, path: deploymentPath + "/scale", operation: "scale", role: operate, changes: true, body: scaleBody{}, answer: rest.Done{}, serve: (*Server).scale,
			about: "Set the number of replicas",
		},

		{
			method: get, path: "/api/v1/instance", operation: "instance", role: read, answer: details.Instance{}, serve: (*Server).wholeInstance, query: sources,
			about: "The reference's details, with those that Helve has beside: calls, restarts, revisions, exits, waits",
		},
		{method: get, path: "/api/v1/status", operation: "status", role: read, answer: helvetype.Status{}, serve: (*Server).status, about: "The state of the node and of all applications, as helvetype.Status"},
		{method: post, path: "/api/v1/apply", operation: "apply_request", role: deploy, changes: true, body: helvetype.ApplyRequest{}, answer: helvetype.ApplyAnswer{}, serve: (*Server).apply, about: "Make the applications of a file the target, with all settings of a deploy"},
		{
			method: post, path: "/api/v1/plan", operation: "plan", role: deploy, body: helvetype.ApplyRequest{}, answer: helvetype.Plan{}, serve: (*Server).plan,
			about: "What an apply would do, without doing it. It loads the code of the file, so it needs the role of a deploy",
		},
		{method: get, path: "/api/v1/applications", operation: "applications", role: read, answer: Applications{}, serve: (*Server).list, about: "All applications"},
		{method: get, path: appPath, operation: "application", role: read, answer: details.AppDetails{}, serve: (*Server).one, about: "One application"},
		{
			method: put, path: appPath, operation: "apply_application", role: deploy, changes: true, body: element, answer: helvetype.ApplyAnswer{}, serve: (*Server).putOne,
			query: applyParams, about: "Deploy one application: the body is its element of the list applications of a file. Others stay as they are",
		},
		{
			method: patch, path: appPath, operation: "patch", role: deploy, changes: true, body: map[string]any{}, answer: helvetype.Outcome{}, serve: (*Server).patch,
			about: `Set options above those of file and code: {"deployments": {"Ranker": {"max_ongoing_requests": 10}}}. null clears`,
		},
		{
			method: patch, path: appPath + "/plan", operation: "plan_patch", role: read, body: map[string]any{}, answer: helvetype.Plan{}, serve: (*Server).planPatch,
			about: "What a PATCH with this body would do, without doing it",
		},
		{method: remove, path: appPath, operation: "delete", role: deploy, changes: true, answer: rest.Done{}, serve: (*Server).remove, about: "Delete an application"},
		{method: get, path: appPath + "/history", operation: "history", role: read, answer: helvetype.History{}, serve: (*Server).history, about: "The revisions that are kept, the newest first"},
		{method: get, path: appPath + "/config", operation: "config", role: read, answer: helvetype.EffectiveConfig{}, serve: (*Server).config, about: "Each option, with the source of its value"},
		{method: get, path: appPath + "/submitted", operation: "submitted", role: read, answer: map[string]any{}, serve: (*Server).submitted, about: "The configuration as it was submitted; null for an application of a program"},
		{
			method: get, path: appPath + "/plan", operation: "plan_rollback", role: read, answer: helvetype.Plan{}, serve: (*Server).planRollback,
			query: []param{{name: "revision", kind: "integer", min: 0, max: 1 << 30, about: "0, the default, is the revision before the present one"}}, about: "What a rollback would do, without doing it",
		},
		{
			method: post, path: appPath + "/plan", operation: "plan_application", role: deploy, body: element, answer: helvetype.Plan{}, serve: (*Server).planOne,
			query: applyParams[:1], about: "What a PUT of this application would do, without doing it",
		},
		{method: post, path: appPath + "/rollback", operation: "rollback", role: operate, changes: true, body: rollbackBody{}, optional: true, answer: helvetype.Outcome{}, serve: (*Server).rollback, about: "Deploy a former revision again"},
		{method: post, path: appPath + "/pause", operation: "pause", role: operate, changes: true, answer: rest.Done{}, serve: (*Server).pause, about: "Stop the rollout where it is"},
		{method: post, path: appPath + "/resume", operation: "resume", role: operate, changes: true, answer: rest.Done{}, serve: (*Server).resume, about: "Go on with a rollout"},
		{method: post, path: appPath + "/restart", operation: "restart", role: operate, changes: true, answer: rest.Done{}, serve: (*Server).restart, about: "Replace all replicas of an application, within the budgets of rollouts"},
		{method: post, path: deploymentPath + "/restart", operation: "restart_deployment", role: operate, changes: true, answer: rest.Done{}, serve: (*Server).restart, about: "Replace the replicas of a deployment, within the budgets of rollouts"},
		{method: post, path: deploymentPath + "/replicas/{replica}/restart", operation: "restart_replica", role: operate, changes: true, answer: rest.Done{}, serve: (*Server).restart, about: "Replace one replica"},
		{
			method: get, path: deploymentPath + "/replicas/{replica}/profile", operation: "profile_replica", role: operate, private: true, answer: media{"application/octet-stream", "text/plain", "image/svg+xml"}, serve: (*Server).profileReplica,
			query: []param{
				{name: "kind", kind: "string", words: profileKinds(), about: "CPU time, the default, memory, stacks, or waits"},
				{name: "seconds", kind: "integer", min: 1, max: profile.MaxSeconds, about: "the time of the profile, 10 by default"},
				{name: "last", kind: "integer", min: 1, max: profile.LastMaxSeconds, about: "the continuous profiles of CPU time in these last seconds, in place of a new profile"},
				{name: "format", kind: "string", words: profile.Forms(), about: "a file for go tool pprof, the default; a flame graph; a line for each stack; a text for people"},
			},
			about: "A profile of the process of a replica, in Go or Python. A process takes one at a time; the profile ends when the client goes away",
		},

		{method: get, path: "/api/v1/settings", operation: "settings", role: read, answer: helvetype.Settings{}, serve: (*Server).settings, about: "The settings of the node as they hold now: HTTP, admin interface, tracing, target capacity, store, keeper"},
		{
			method: patch, path: "/api/v1/settings", operation: "set_settings", role: deploy, changes: true, body: helvetype.SettingsChange{}, answer: helvetype.SettingsOutcome{}, serve: (*Server).setSettings,
			about: `Change the target capacity or fields of http_options, while the node runs: {"target_capacity": 50, "http_options": {"request_timeout_s": 10}}. null takes a field away`,
		},
		{method: patch, path: "/api/v1/settings/plan", operation: "plan_settings", role: read, body: helvetype.SettingsChange{}, answer: helvetype.SettingsPlan{}, serve: (*Server).planSettings, about: "What a PATCH of the settings would do, without doing it"},
		{method: get, path: "/api/v1/tracing", operation: "tracing", role: read, answer: helvetype.Tracing{}, serve: (*Server).tracing, about: "Which requests are sampled and which are slow, and where spans go"},
		{method: patch, path: "/api/v1/tracing", operation: "set_tracing", role: operate, changes: true, body: helvetype.TracingChange{}, answer: helvetype.Tracing{}, serve: (*Server).setTracing, about: "Change which requests are sampled and which are slow, while the node runs"},
		{method: get, path: "/api/v1/profiles", operation: "continuous_profiles", role: read, private: true, answer: profile.Continuous{}, serve: (*Server).profiling, about: "Whether the node takes continuous profiles of all replicas"},
		{method: put, path: "/api/v1/profiles", operation: "set_continuous_profiles", role: operate, changes: true, body: profilingBody{}, answer: profile.Continuous{}, serve: (*Server).setProfiling, about: "Turn continuous profiles of all replicas on or off. Those that were taken are dropped when they are turned off"},

		{method: get, path: "/api/v1/events", operation: "events", role: read, query: eventParams, answer: stream{rest.EventList{}, helvetype.Event{}}, serve: (*Server).events, about: "Transitions, the oldest first"},
		{
			method: get, path: "/api/v1/logs", operation: "logs", role: read, private: true, answer: stream{rest.LogList{}, helvetype.LogLine{}}, serve: (*Server).logs, about: "Lines that replicas have written, the oldest first",
			query: []param{
				{name: "app", kind: "string"}, {name: "deployment", kind: "string"}, {name: "replica", kind: "string"}, {name: "request", kind: "string", about: "the id of a request"},
				{name: "level", kind: "string", about: "the lowest level: DEBUG, INFO, WARN or ERROR"}, {name: "text", kind: "string", about: "a part of the message or of the value of an attribute, in letters of any case"},
				{name: "since", kind: "string", about: "a time, or how long ago it was, such as 10m"}, {name: "until", kind: "string", about: "as since"},
				{name: "tail", kind: "integer", min: 0, max: logLimit, about: "at most so many of the newest lines"},
				{name: "follow", kind: "boolean", about: "the answer does not end: the lines to come follow"}, {name: "access", kind: "boolean", about: "lines of the access log of HTTP in place of those of replicas"},
			},
		},
		{method: get, path: "/api/v1/requests", operation: "requests", role: read, private: true, query: requestParams, answer: helvetype.RequestList{}, serve: (*Server).requests, about: "Requests that the node keeps because they have failed, were slow or are sampled, the newest first"},
		{method: get, path: "/api/v1/requests/{request}", operation: "request", role: read, private: true, answer: helvetype.RequestTrace{}, serve: (*Server).request, about: "A request with what took time in it: its calls, their waits, and spans of user code"},
		{
			method: get, path: "/api/v1/updates", operation: "updates", role: read, answer: stream{helvetype.Update{}, helvetype.Update{}}, serve: (*Server).updates, about: "What changes in the node, without end: the first item has all, each later one what has changed",
			query: []param{{name: "app", kind: "string", about: "also the deployments of this application, and their calls of each other"}, {name: "deployment", kind: "string", about: "also its replicas"}, {name: "replica", kind: "string", about: "of these only this one"}, {name: "all_replicas", kind: "boolean", about: "also the replicas of all deployments; not together with app"}},
		},
		{
			method: get, path: "/api/v1/series", operation: "series", role: read, answer: helvetype.Series{}, serve: (*Server).series, about: "The numbers of the node, or of an application, deployment or replica, in the last hour",
			query: []param{{name: "app", kind: "string"}, {name: "deployment", kind: "string"}, {name: "replica", kind: "string"}, {name: "since", kind: "string", about: "a time, or how long ago it was, such as 10m"}},
		},
		{method: get, path: "/api/v1/calls", operation: "calls", role: read, query: callParams, answer: helvetype.CallList{}, serve: (*Server).calls, about: "Calls that wait and run, the oldest first"},
		{method: get, path: "/api/v1/why", operation: "why", role: read, answer: helvetype.Overview{}, serve: (*Server).overview, about: "What is wrong in the node now, the worst first"},
		{method: get, path: "/api/v1/why/{app}", operation: "why_application", role: read, answer: helvetype.Explanation{}, serve: (*Server).why, query: []param{{name: "revision", kind: "integer", min: 0, max: 1 << 30, about: "explain the outcome of this revision"}}, about: "Why an application is as it is"},
		{method: get, path: "/api/v1/why/{app}/{deployment}", operation: "why_deployment", role: read, answer: helvetype.Explanation{}, serve: (*Server).why, about: "Why a deployment is as it is"},
		{method: get, path: "/api/v1/why/{app}/{deployment}/{replica}", operation: "why_replica", role: read, answer: helvetype.Explanation{}, serve: (*Server).why, about: "Why a replica is as it is"},
		{
			method: get, path: "/api/v1/dump", operation: "dump", role: read, private: true, answer: media{"application/gzip"}, serve: (*Server).dump,
			about: "A support bundle as tar.gz: the answers of the other routes, the stacks of the node, its newest log lines; without secrets",
		},
		{method: get, path: "/api/v1/audit", operation: "audit", role: read, private: true, query: []param{{name: "limit", kind: "integer", min: 1, max: auditLimit}}, answer: rest.AuditList{}, serve: (*Server).auditLog, about: "The newest changes, the oldest first: who has asked for what"},
		{method: get, path: "/api/v1/tokens", operation: "tokens", role: deploy, answer: rest.TokenList{}, serve: (*Server).listTokens, about: "The tokens, without their texts"},
		{method: post, path: "/api/v1/tokens", operation: "add_token", role: deploy, changes: true, body: tokenBody{}, answer: rest.NewToken{}, serve: (*Server).addToken, about: "Make a token. Its text is in the answer, and nowhere else"},
		{method: remove, path: "/api/v1/tokens/{name}", operation: "remove_token", role: deploy, changes: true, answer: rest.Done{}, serve: (*Server).removeToken, about: "Take a token out"},

		{method: get, path: "/events", operation: "events_short", role: read, query: eventParams, answer: stream{rest.EventList{}, helvetype.Event{}}, serve: (*Server).events, about: "As /api/v1/events"},
		{method: get, path: "/calls", operation: "calls_short", role: read, query: callParams, answer: helvetype.CallList{}, serve: (*Server).calls, about: "As /api/v1/calls"},
		{method: get, path: "/metrics", operation: "metrics", role: read, anyQuery: true, answer: texts, serve: (*Server).metrics, about: "Metrics for Prometheus"},
		{method: get, path: "/debug/pprof/", operation: "profiles", role: read, private: true, answer: Profiles{}, serve: (*Server).profiles, about: "The names of the profiles"},
		{
			method: get, path: "/debug/pprof/{name}", operation: "profile", role: read, private: true, answer: media{"application/octet-stream", "text/plain"}, serve: (*Server).profile, about: "A profile, as in net/http/pprof",
			query: []param{{name: "debug", kind: "integer", min: 0, max: profileSeconds}, {name: "seconds", kind: "integer", min: 0, max: profileSeconds}, {name: "gc", kind: "integer", min: 0, max: profileSeconds}},
		},
	}
}

// stream is the answer of a route that follows: one value in JSON without follow, and with it a line or an event per item.
type stream struct{ list, item any }
