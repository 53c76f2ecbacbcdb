package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/profile"
)

// appURL is the path of an application, or of a deployment or a replica of it where these are not "", with a last element.
func appURL(app, deployment, replica, last string) string {
	path := "/api/v1/applications/" + url.PathEscape(app)
	if deployment != "" {
		path += "/deployments/" + url.PathEscape(deployment)
	}
	if replica != "" {
		path += "/replicas/" + url.PathEscape(replica)
	}
	if last != "" {
		path += "/" + last
	}
	return path
}

// Instance asks for the state of the node as the reference has it, with the fields of Helve's own.
func (c *Client) Instance(ctx context.Context) (in details.Instance, err error) {
	return in, c.Get(ctx, "/api/v1/instance", nil, &in)
}

// Scaled says whether the deployments of an application have the replicas that they should have: see [details.AppDetails.Scaled].
func (c *Client) Scaled(ctx context.Context, app, only string) (over bool, failure string, err error) {
	in, err := c.Instance(ctx)
	over, failure = in.Applications[app].Scaled(only)
	return over, failure, err
}

// Apply is Operator.Apply of package admin.
func (c *Client) Apply(ctx context.Context, r helvetype.ApplyRequest) (a helvetype.ApplyAnswer, err error) {
	return a, c.Do(ctx, http.MethodPost, "/api/v1/apply", nil, r, &a)
}

// Plan is Operator.Plan of package admin.
func (c *Client) Plan(ctx context.Context, r helvetype.ApplyRequest) (p helvetype.Plan, err error) {
	return p, c.Do(ctx, http.MethodPost, "/api/v1/plan", nil, r, &p)
}

// PlanRollback is Operator.PlanRollback of package admin.
func (c *Client) PlanRollback(ctx context.Context, app string, revision int) (p helvetype.Plan, err error) {
	return p, c.Get(ctx, appURL(app, "", "", "plan"), url.Values{"revision": {strconv.Itoa(revision)}}, &p)
}

// Delete is Operator.Delete of package admin.
func (c *Client) Delete(ctx context.Context, app string) error {
	return c.Do(ctx, http.MethodDelete, appURL(app, "", "", ""), nil, nil, nil)
}

// Scale is Operator.Scale of package admin.
func (c *Client) Scale(ctx context.Context, app, deployment string, n int, why string) error {
	body := map[string]any{"target_num_replicas": n}
	if why != "" {
		body["message"] = why
	}
	return c.Do(ctx, http.MethodPost, appURL(app, deployment, "", "scale"), nil, body, nil)
}

// Restart is Operator.Restart of package admin.
func (c *Client) Restart(ctx context.Context, app, deployment, replica string) error {
	return c.Do(ctx, http.MethodPost, appURL(app, deployment, replica, "restart"), nil, nil, nil)
}

// Profile is Operator.Profile of package admin, in the form that format names.
func (c *Client) Profile(ctx context.Context, app, deployment, replica string, kind profile.Kind, d time.Duration, format string) ([]byte, error) {
	query := url.Values{"kind": {string(kind)}, "seconds": {strconv.Itoa(int(d / time.Second))}, "format": {format}}
	return c.raw(ctx, http.MethodGet, appURL(app, deployment, replica, "profile"), query, nil)
}

// LastProfile is Operator.LastProfile of package admin, in a format.
func (c *Client) LastProfile(ctx context.Context, app, deployment, replica string, d time.Duration, format string) ([]byte, error) {
	query := url.Values{"last": {strconv.Itoa(int(d / time.Second))}, "format": {format}}
	return c.raw(ctx, http.MethodGet, appURL(app, deployment, replica, "profile"), query, nil)
}

// Profiling is Operator.Profiling of package admin.
func (c *Client) Profiling(ctx context.Context) (p profile.Continuous, err error) {
	return p, c.Get(ctx, "/api/v1/profiles", nil, &p)
}

// SetProfiling is Operator.SetProfiling of package admin.
func (c *Client) SetProfiling(ctx context.Context, on bool) (p profile.Continuous, err error) {
	return p, c.Do(ctx, http.MethodPut, "/api/v1/profiles", nil, map[string]bool{"continuous": on}, &p)
}

// Tracing is Operator.Tracing of package admin.
func (c *Client) Tracing(ctx context.Context, change *helvetype.TracingChange) (t helvetype.Tracing, err error) {
	if change == nil {
		return t, c.Get(ctx, "/api/v1/tracing", nil, &t)
	}
	return t, c.Do(ctx, http.MethodPatch, "/api/v1/tracing", nil, change, &t)
}

// Rollback is Operator.Rollback of package admin.
func (c *Client) Rollback(ctx context.Context, app string, revision int, message string) (o helvetype.Outcome, err error) {
	body := map[string]any{}
	if revision != 0 {
		body["revision"] = revision
	}
	if message != "" {
		body["message"] = message
	}
	return o, c.Do(ctx, http.MethodPost, appURL(app, "", "", "rollback"), nil, body, &o)
}

// Pause is Operator.Pause of package admin.
func (c *Client) Pause(ctx context.Context, app string) error {
	return c.Do(ctx, http.MethodPost, appURL(app, "", "", "pause"), nil, nil, nil)
}

// Resume is Operator.Resume of package admin.
func (c *Client) Resume(ctx context.Context, app string) (said string, err error) {
	var done Done
	err = c.Do(ctx, http.MethodPost, appURL(app, "", "", "resume"), nil, nil, &done)
	return done.Message, err
}

// Patch is Operator.Patch of package admin, for any generation.
func (c *Client) Patch(ctx context.Context, app string, options json.RawMessage) (o helvetype.Outcome, err error) {
	return o, c.Do(ctx, http.MethodPatch, appURL(app, "", "", ""), nil, options, &o)
}

// PlanPatch is Operator.PlanPatch of package admin.
func (c *Client) PlanPatch(ctx context.Context, app string, options json.RawMessage) (p helvetype.Plan, err error) {
	return p, c.Do(ctx, http.MethodPatch, appURL(app, "", "", "plan"), nil, options, &p)
}

// Who asks whom the node takes this client for.
func (c *Client) Who(ctx context.Context) (w Who, err error) {
	return w, c.Get(ctx, "/api/v1/whoami", nil, &w)
}

// History is Operator.History of package admin.
func (c *Client) History(ctx context.Context, app string) (h helvetype.History, err error) {
	return h, c.Get(ctx, appURL(app, "", "", "history"), nil, &h)
}

// Config is Operator.Config of package admin.
func (c *Client) Config(ctx context.Context, app string) (e helvetype.EffectiveConfig, err error) {
	return e, c.Get(ctx, appURL(app, "", "", "config"), nil, &e)
}

// Submitted is Operator.Submitted of package admin.
func (c *Client) Submitted(ctx context.Context, app string) (s json.RawMessage, err error) {
	return s, c.Get(ctx, appURL(app, "", "", "submitted"), nil, &s)
}

// Explain is Operator.Explain of package admin for an application, a deployment or a replica, or for a revision of an application if that is not 0.
func (c *Client) Explain(ctx context.Context, app, deployment, replica string, revision int) (e helvetype.Explanation, err error) {
	path := "/api/v1/why/" + url.PathEscape(app)
	for _, part := range []string{deployment, replica} {
		if part != "" {
			path += "/" + url.PathEscape(part)
		}
	}
	query := url.Values{}
	if revision != 0 {
		query.Set("revision", strconv.Itoa(revision))
	}
	return e, c.Get(ctx, path, query, &e)
}

// Overview is Operator.Overview of package admin.
func (c *Client) Overview(ctx context.Context) (o helvetype.Overview, err error) {
	return o, c.Get(ctx, "/api/v1/why", nil, &o)
}

// Requests is Operator.Requests of package admin, of one application and for one reason where these are not "".
func (c *Client) Requests(ctx context.Context, app, kept string) (l helvetype.RequestList, err error) {
	query := url.Values{}
	for name, value := range map[string]string{"app": app, "kept": kept} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return l, c.Get(ctx, "/api/v1/requests", query, &l)
}

// Request is Operator.Request of package admin.
func (c *Client) Request(ctx context.Context, id string) (t helvetype.RequestTrace, err error) {
	return t, c.Get(ctx, "/api/v1/requests/"+url.PathEscape(id), nil, &t)
}

// Shutdown is Operator.Shutdown of package admin.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.Do(ctx, http.MethodDelete, "/api/serve/applications/", nil, nil, nil)
}
