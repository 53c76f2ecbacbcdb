package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/jsonbody"
	"github.com/helve-serve/helve/internal/plan"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/why"
)

// rayReference is the version of Ray Serve whose REST API, files and names these are.
const rayReference = "2.60.0"

// RayVersion is the answer to GET /api/ray/version, which clients of the reference ask first.
type RayVersion struct {
	Version     string `json:"version"` // of the REST API
	RayVersion  string `json:"ray_version"`
	RayCommit   string `json:"ray_commit"`
	SessionName string `json:"session_name"`
}

func (a *Server) rayVersion(c *ask) {
	answer(c.w, http.StatusOK, RayVersion{Version: "4", RayVersion: rayReference, RayCommit: "helve-" + a.set.Version, SessionName: details.NodeID})
}

// operator is the operator of the node. A node without one answers, and is nil.
func (a *Server) operator(c *ask) Operator {
	if a.set.Operator == nil {
		a.failed(c, &helvetype.OperationError{
			Code: helvetype.CodeUnimplemented, Message: "this program only answers questions: it has no operations", Next: "helve start makes a node that has them",
		})
	}
	return a.set.Operator
}

// get answers a question to the operator.
func (a *Server) get(c *ask, ask func(o Operator) (any, error)) {
	o := a.operator(c)
	if o == nil {
		return
	}
	a.tag(c) // before the question: a change meanwhile makes the tag old, and never the answer
	v, err := ask(o)
	if err != nil {
		c.w.Header().Del("ETag")
		a.failed(c, err)
		return
	}
	answer(c.w, http.StatusOK, v)
}

// change does a change and adds it to the audit log. An answer of nil is a [Done] with the message.
func (a *Server) change(c *ask, object, detail, message string, do func(o Operator) (any, error)) {
	o := a.operator(c)
	if o == nil {
		return
	}
	v, err := do(o)
	if outcome, ok := v.(interface{ summary() string }); ok && err == nil {
		detail = strings.TrimPrefix(detail+"; "+outcome.summary(), "; ")
	}
	a.note(c, object, detail, err)
	if err != nil {
		a.failed(c, err)
		return
	}
	a.tag(c)
	if v == nil {
		v = rest.Done{Message: message, Generation: o.Generation()}
	}
	answer(c.w, http.StatusOK, v)
}

// applied is the answer of an apply, with a line for the audit log.
type applied struct{ helvetype.ApplyAnswer }

func (a applied) summary() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(a.Applications)) {
		o := a.Applications[name]
		part := name + " " + o.Change
		if o.Revision > 0 {
			part += fmt.Sprintf(" (revision %d)", o.Revision)
		}
		if o.Error != "" {
			first, _, _ := strings.Cut(strings.TrimSpace(o.Error), "\n")
			part += ": " + first
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// applyRequest is the request of a PUT with a file.
func (c *ask) applyRequest() helvetype.ApplyRequest {
	return helvetype.ApplyRequest{
		Config: string(c.body), Name: "the body", Source: c.query.Get("source"), Message: c.query.Get("message"), Wait: c.flag("wait"), If: c.by.Seen,
	}
}

func (a *Server) doApply(c *ask, r helvetype.ApplyRequest) {
	object := r.Only
	if object == "" {
		object = "source " + orDefault(r.Source)
	}
	a.change(c, object, r.Message, "", func(o Operator) (any, error) {
		done, err := o.Apply(c.r.Context(), c.by, r)
		return applied{done}, err
	})
}

func orDefault(source string) string {
	if source == "" {
		return "default"
	}
	return source
}

func (a *Server) putAll(c *ask) { a.doApply(c, c.applyRequest()) }

func (a *Server) apply(c *ask) {
	var r helvetype.ApplyRequest
	if !a.decode(c, &r) {
		return
	}
	if c.by.Seen != 0 {
		r.If = c.by.Seen
	}
	c.by.Seen = r.If
	a.doApply(c, r)
}

func (a *Server) plan(c *ask) {
	var r helvetype.ApplyRequest
	if a.decode(c, &r) {
		a.get(c, func(o Operator) (any, error) { return o.Plan(c.r.Context(), r) })
	}
}

// alone is the request of a file with one application, whose element of the list is the body.
func (a *Server) alone(c *ask) (r helvetype.ApplyRequest, ok bool) {
	name := c.path("app")
	var app map[string]json.RawMessage
	if err := json.Unmarshal(c.body, &app); err != nil || app == nil {
		fail(c.w, http.StatusBadRequest, "the body must be an application as a JSON object, such as {\"import_path\": \"app:app\"}: %v", orNull(err))
		return r, false
	}
	if err := jsonbody.Unique(c.body); err != nil {
		fail(c.w, http.StatusBadRequest, "the body: %s", err)
		return r, false
	}
	if given, there := app["name"]; there {
		var text string
		if json.Unmarshal(given, &text) != nil || text != name {
			fail(c.w, http.StatusBadRequest, "the body has the name %s, and the path has %q", given, name)
			return r, false
		}
	}
	if _, file := app["applications"]; file {
		fail(c.w, http.StatusBadRequest, "the body is a whole file; PUT /api/serve/applications/ takes files, and this takes an element of their list applications")
		return r, false
	}
	r = c.applyRequest()
	r.Element, r.Keep, r.Only = true, true, name
	return r, true
}

func orNull(err error) string {
	if err == nil {
		return "it is null"
	}
	return err.Error()
}

func (a *Server) putOne(c *ask) {
	if r, ok := a.alone(c); ok {
		a.doApply(c, r)
	}
}

func (a *Server) planOne(c *ask) {
	if r, ok := a.alone(c); ok {
		a.get(c, func(o Operator) (any, error) { return o.Plan(c.r.Context(), r) })
	}
}

func (a *Server) shutdown(c *ask) {
	a.change(c, "node", "", "All applications are deleted.", func(o Operator) (any, error) { return nil, o.Shutdown(c.r.Context(), c.by) })
}

func (a *Server) remove(c *ask) {
	app := c.path("app")
	a.change(c, app, "", fmt.Sprintf("The application %s is deleted: its replicas finish their calls.", app), func(o Operator) (any, error) {
		return nil, o.Delete(c.r.Context(), c.by, app)
	})
}

func (a *Server) scale(c *ask) {
	var body scaleBody
	if !a.decode(c, &body) {
		return
	}
	app, deployment := c.path("app"), c.path("deployment")
	detail := fmt.Sprintf("%d replicas", body.TargetNumReplicas)
	if body.Message != "" {
		detail += ": " + body.Message
	}
	a.change(c, app+"/"+deployment, detail, "Scaling request received. Deployment will get scaled asynchronously.", func(o Operator) (any, error) {
		return nil, o.Scale(c.r.Context(), c.by, app, deployment, body.TargetNumReplicas, body.Message)
	})
}

func (a *Server) restart(c *ask) {
	object := helvetype.Object{App: c.path("app"), Deployment: c.path("deployment"), Replica: c.path("replica")}
	a.change(c, object.String(), "", "The replicas are replaced, within the budgets of rollouts.", func(o Operator) (any, error) {
		return nil, o.Restart(c.r.Context(), c.by, object.App, object.Deployment, object.Replica)
	})
}

func (a *Server) rollback(c *ask) {
	var body rollbackBody
	if len(c.body) > 0 && !a.decode(c, &body) {
		return
	}
	detail := "to the revision before"
	if body.Revision > 0 {
		detail = fmt.Sprintf("to revision %d", body.Revision)
	}
	if body.Message != "" {
		detail += ": " + body.Message
	}
	app := c.path("app")
	a.change(c, app, detail, "", func(o Operator) (any, error) {
		return o.Rollback(c.r.Context(), c.by, app, body.Revision, body.Message)
	})
}

func (a *Server) pause(c *ask) {
	app := c.path("app")
	a.change(c, app, "", "The rollout stays where it is.", func(o Operator) (any, error) { return nil, o.Pause(c.r.Context(), c.by, app) })
}

func (a *Server) resume(c *ask) {
	app := c.path("app")
	a.change(c, app, "", "", func(o Operator) (any, error) {
		said, err := o.Resume(c.r.Context(), c.by, app)
		return rest.Done{Message: said, Generation: o.Generation()}, err
	})
}

func (a *Server) patch(c *ask) {
	var options map[string]json.RawMessage
	if !a.decode(c, &options) {
		return
	}
	app := c.path("app")
	a.change(c, app, plan.PatchedValues(c.body), "", func(o Operator) (any, error) {
		return o.Patch(c.r.Context(), c.by, app, c.body, c.by.Seen)
	})
}

func (a *Server) planPatch(c *ask) {
	var options map[string]json.RawMessage
	if a.decode(c, &options) {
		a.get(c, func(o Operator) (any, error) { return o.PlanPatch(c.r.Context(), c.path("app"), c.body) })
	}
}

func (a *Server) history(c *ask) {
	a.get(c, func(o Operator) (any, error) { return o.History(c.r.Context(), c.path("app")) })
}

func (a *Server) config(c *ask) {
	a.get(c, func(o Operator) (any, error) { return o.Config(c.r.Context(), c.path("app")) })
}

func (a *Server) submitted(c *ask) {
	a.get(c, func(o Operator) (any, error) {
		if _, ok := a.set.Node.Applications()[c.path("app")]; !ok {
			return nil, a.absent(c.path("app"))
		}
		b, err := o.Submitted(c.r.Context(), c.path("app"))
		if len(b) == 0 {
			b = []byte("null")
		}
		return json.RawMessage(b), err
	})
}

func (a *Server) planRollback(c *ask) {
	a.get(c, func(o Operator) (any, error) {
		return o.PlanRollback(c.r.Context(), c.path("app"), c.number("revision", 0))
	})
}

func (a *Server) why(c *ask) {
	of := helvetype.Object{Kind: helvetype.KindApplication, App: c.path("app"), Deployment: c.path("deployment"), Replica: c.path("replica")}
	switch {
	case of.Replica != "":
		of.Kind = helvetype.KindReplica
	case of.Deployment != "":
		of.Kind = helvetype.KindDeployment
	}
	a.get(c, func(o Operator) (any, error) { return o.Explain(c.r.Context(), of, c.number("revision", 0)) })
}

func (a *Server) overview(c *ask) {
	a.get(c, func(o Operator) (any, error) { return o.Overview(c.r.Context()) })
}

// absent is the error of an application that is not there.
func (a *Server) absent(app string) error {
	e := &helvetype.OperationError{Code: helvetype.CodeNotFound, Message: fmt.Sprintf("there is no application %q", app), Next: "helve status lists the applications"}
	if all := slices.Sorted(maps.Keys(a.set.Node.Applications())); len(all) > 0 {
		e.Message += "; there is " + strings.Join(all[:min(len(all), 20)], ", ")
	}
	return e
}

// auditLimit is how many entries of the audit log an answer has, at most.
const auditLimit = 1000

func (a *Server) auditLog(c *ask) {
	answer(c.w, http.StatusOK, rest.AuditList{Entries: a.set.Audit.Entries(c.number("limit", auditLimit))})
}

func (a *Server) requests(c *ask) {
	q := helvetype.RequestQuery{App: c.query.Get("app"), Kept: c.query.Get("kept"), Status: c.number("status", 0), LongerThan: time.Duration(c.number("longer_than_ms", 0)) * time.Millisecond, Limit: c.number("limit", 0)}
	a.get(c, func(o Operator) (any, error) { return o.Requests(c.r.Context(), q) })
}

func (a *Server) request(c *ask) {
	a.get(c, func(o Operator) (any, error) {
		id := c.path("request")
		r, err := o.Request(c.r.Context(), id)
		if why.Running(&r, id, CallList(a.set.Node, helvetype.Object{}, callsMax).Calls, time.Now()) {
			err = nil
		}
		return r, err
	})
}
