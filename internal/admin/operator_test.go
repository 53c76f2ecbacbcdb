package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/audit"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/profile"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/token"
)

// fakeOperator notes the operations. Its generation rises with each change.
type fakeOperator struct {
	mu         sync.Mutex
	generation uint64
	asked      []string
	err        error // of the next operation
	lines      []helvetype.LogLine
	more       chan helvetype.LogLine // of readers that follow
}

func newOperator() *fakeOperator {
	return &fakeOperator{generation: 7, more: make(chan helvetype.LogLine)}
}

// note notes a question, and a change as one of its author.
func (o *fakeOperator) note(by *helvetype.Author, format string, args ...any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.err
	o.err = nil
	if by != nil && by.Seen != 0 && by.Seen != o.generation {
		err = &helvetype.OperationError{Code: helvetype.CodeFailedPrecondition, Message: fmt.Sprint("the generation is ", o.generation), Next: "read again"}
	}
	if err != nil {
		return err
	}
	text := fmt.Sprintf(format, args...)
	if by != nil {
		o.generation++
		text = by.Name + ": " + text
	}
	o.asked = append(o.asked, text)
	return nil
}

func (o *fakeOperator) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

// last is the last operation.
func (o *fakeOperator) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.asked) == 0 {
		return ""
	}
	return o.asked[len(o.asked)-1]
}

func (o *fakeOperator) Apply(_ context.Context, by helvetype.Author, r helvetype.ApplyRequest) (helvetype.ApplyAnswer, error) {
	err := o.note(&by, "apply %s source=%q keep=%v only=%q message=%q wait=%v if=%d", configOf(r), r.Source, r.Keep, r.Only, r.Message, r.Wait, r.If)
	return helvetype.ApplyAnswer{Generation: o.Generation(), Applications: map[string]helvetype.Outcome{"app": {Change: "changed", Revision: 5}}}, err
}

func (o *fakeOperator) Plan(_ context.Context, r helvetype.ApplyRequest) (helvetype.Plan, error) {
	return helvetype.Plan{Generation: o.Generation()}, o.note(nil, "plan %s keep=%v only=%q", configOf(r), r.Keep, r.Only)
}

func (o *fakeOperator) PlanRollback(_ context.Context, app string, revision int) (helvetype.Plan, error) {
	return helvetype.Plan{}, o.note(nil, "plan rollback %s %d", app, revision)
}

func (o *fakeOperator) PlanPatch(_ context.Context, app string, options json.RawMessage) (helvetype.Plan, error) {
	return helvetype.Plan{}, o.note(nil, "plan patch %s %s", app, options)
}

func (o *fakeOperator) AllSettings(context.Context) (helvetype.Settings, error) {
	return helvetype.Settings{Generation: 7}, o.note(nil, "settings")
}

func (o *fakeOperator) ChangeSettings(_ context.Context, by helvetype.Author, c helvetype.SettingsChange) (helvetype.SettingsOutcome, error) {
	return helvetype.SettingsOutcome{Warnings: []string{}}, o.note(&by, "set %s %s", c.TargetCapacity, c.HTTPOptions)
}

func (o *fakeOperator) PlanSettings(_ context.Context, c helvetype.SettingsChange) (helvetype.SettingsPlan, error) {
	return helvetype.SettingsPlan{Changes: []helvetype.ValueChange{}, Warnings: []string{}}, o.note(nil, "plan settings %s %s", c.TargetCapacity, c.HTTPOptions)
}

func (o *fakeOperator) Delete(_ context.Context, by helvetype.Author, app string) error {
	return o.note(&by, "delete %s", app)
}

func (o *fakeOperator) Scale(_ context.Context, by helvetype.Author, app, deployment string, n int, why string) error {
	return o.note(&by, "scale %s/%s %d %q", app, deployment, n, why)
}

func (o *fakeOperator) Restart(_ context.Context, by helvetype.Author, app, deployment, replica string) error {
	return o.note(&by, "restart %s/%s/%s", app, deployment, replica)
}

func (o *fakeOperator) Rollback(_ context.Context, by helvetype.Author, app string, revision int, message string) (helvetype.Outcome, error) {
	return helvetype.Outcome{Change: "changed", Revision: 6}, o.note(&by, "rollback %s %d %q", app, revision, message)
}

func (o *fakeOperator) Pause(_ context.Context, by helvetype.Author, app string) error {
	return o.note(&by, "pause %s", app)
}

func (o *fakeOperator) Resume(_ context.Context, by helvetype.Author, app string) (string, error) {
	return "it waits", o.note(&by, "resume %s", app)
}

func (o *fakeOperator) Patch(_ context.Context, by helvetype.Author, app string, options json.RawMessage, seen uint64) (helvetype.Outcome, error) {
	return helvetype.Outcome{Change: "changed"}, o.note(&by, "patch %s %s %d", app, options, seen)
}

func (o *fakeOperator) History(_ context.Context, app string) (helvetype.History, error) {
	return helvetype.History{App: app}, o.note(nil, "history %s", app)
}

func (o *fakeOperator) Config(_ context.Context, app string) (helvetype.EffectiveConfig, error) {
	return helvetype.EffectiveConfig{App: app}, o.note(nil, "config %s", app)
}

func (o *fakeOperator) Submitted(_ context.Context, app string) ([]byte, error) {
	return []byte(`{"name":"` + app + `"}`), nil
}

func (o *fakeOperator) Overview(context.Context) (helvetype.Overview, error) {
	return helvetype.Overview{Sentence: "all is well"}, o.note(nil, "why")
}

func (o *fakeOperator) Explain(_ context.Context, of helvetype.Object, revision int) (helvetype.Explanation, error) {
	return helvetype.Explanation{Object: of}, o.note(nil, "why %s %s %d", of.Kind, of, revision)
}

func (o *fakeOperator) Requests(_ context.Context, q helvetype.RequestQuery) (helvetype.RequestList, error) {
	return helvetype.RequestList{Requests: []helvetype.Request{{ID: "r"}}}, o.note(nil, "requests %+v", q)
}

func (o *fakeOperator) Request(_ context.Context, id string) (helvetype.RequestTrace, error) {
	return helvetype.RequestTrace{Request: helvetype.Request{ID: id}}, o.note(nil, "request %s", id)
}

func (o *fakeOperator) Logs(ctx context.Context, q helvetype.LogQuery, yield func(*helvetype.LogLine, uint64) error) error {
	if err := o.note(nil, "logs %s tail=%d follow=%v", q.App, q.Tail, q.Follow); err != nil {
		return err
	}
	missed := uint64(3)
	for _, line := range o.lines {
		if err := yield(&line, missed); err != nil {
			return err
		}
		missed = 0
	}
	for q.Follow {
		if err := yield(nil, 0); err != nil {
			return err
		}
		select {
		case line := <-o.more:
			if err := yield(&line, 0); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (o *fakeOperator) Shutdown(_ context.Context, by helvetype.Author) error {
	return o.note(&by, "shutdown")
}

func (o *fakeOperator) LastProfile(ctx context.Context, of helvetype.Object, d time.Duration) ([]byte, error) {
	return o.Profile(ctx, of, "last", d)
}

func (o *fakeOperator) Profiling(context.Context) (profile.Continuous, error) {
	return profile.Continuous{On: true, Profiles: 7}, o.note(nil, "profiling")
}

func (o *fakeOperator) Tracing(_ context.Context, _ helvetype.Author, c *helvetype.TracingChange) (helvetype.Tracing, error) {
	if c == nil {
		return helvetype.Tracing{Ratio: 0.01}, o.note(nil, "tracing")
	}
	return helvetype.Tracing{Ratio: *c.Ratio}, o.note(nil, "tracing %v %v", *c.Ratio, c.Reset)
}

func (o *fakeOperator) SetProfiling(_ context.Context, on bool) (profile.Continuous, error) {
	return profile.Continuous{On: on}, o.note(nil, "profiling %v", on)
}

func (o *fakeOperator) Profile(_ context.Context, of helvetype.Object, kind profile.Kind, d time.Duration) ([]byte, error) {
	p := &profile.Profile{Types: []profile.Type{{Kind: "cpu", Unit: "nanoseconds"}}, Functions: []profile.Function{{Name: "score"}}}
	p.Samples = []profile.Sample{{Stack: []profile.Frame{{}}, Values: []int64{7}}}
	return p.Encode(), o.note(nil, "profile %s %s %s", of, kind, d)
}

func (o *fakeOperator) Settings(context.Context) (helvetype.NodeSettings, error) {
	half := 50.0
	return helvetype.NodeSettings{TargetCapacity: &half, HTTPOptions: json.RawMessage(`{"root_path":"/v1","port":1,"ssl_keyfile_password":"***"}`)}, nil
}

func (o *fakeOperator) Generation() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.generation
}

// operated is a server of a node with an operator, with a token for each role.
type operated struct {
	*Server
	operator *fakeOperator
	tokens   map[helvetype.Role]string
}

func operate(t testing.TB) operated {
	t.Helper()
	dir := t.TempDir()
	tokens, err := token.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := operated{operator: newOperator(), tokens: map[helvetype.Role]string{}}
	for _, role := range []helvetype.Role{helvetype.RoleRead, helvetype.RoleOperate, helvetype.RoleDeploy} {
		if o.tokens[role], err = tokens.Add("t-"+string(role), role); err != nil {
			t.Fatal(err)
		}
	}
	o.Server = New(Settings{Node: fileNode{fakeNode{telemetry.NewEvents(nil)}}, Operator: o.operator, Tokens: tokens, Version: "test"})
	t.Cleanup(o.Close)
	return o
}

// configOf is the file of a request, or the element of an application.
func configOf(r helvetype.ApplyRequest) string {
	if r.Element {
		return r.Config + " of " + r.Only
	}
	return r.Config
}

// fileNode is a node whose application is of a file.
type fileNode struct{ fakeNode }

func (n fileNode) Applications() map[string]deploy.DeployedApp {
	all := n.fakeNode.Applications()
	app := all["app"]
	app.Submitted = json.RawMessage(`{"name":"app"}`)
	all["app"] = app
	return all
}

// ask sends a request over TCP of the loopback interface with the token of a role; "" for none. Headers are lines.
func (o operated) ask(t *testing.T, role helvetype.Role, request, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return o.send(t, o.tcp, o.tokens[role], request, body, headers...)
}

func (o operated) send(t *testing.T, s *http.Server, text, request, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	method, target, _ := strings.Cut(request, " ")
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Host, r.RemoteAddr = "127.0.0.1:8265", "127.0.0.1:1234"
	if text != "" {
		r.Header.Set("Authorization", "Bearer "+text)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	return w
}

// TestOperations: each route asks the operator for its operation, in the name of the author, with the generation afterwards as the ETag.
func TestOperations(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]struct{ body, asked, answer string }{
		"PUT /api/serve/applications/?source=chat&message=m&wait":                    {`{"applications":[]}`, `t-deploy: apply {"applications":[]} source="chat" keep=false only="" message="m" wait=true if=0`, `"change": "changed"`},
		"DELETE /api/serve/applications/":                                            {"", "t-deploy: shutdown", `"message": "All applications are deleted."`},
		"POST /api/v1/applications/app/deployments/D/scale":                          {`{"target_num_replicas": 3}`, `t-deploy: scale app/D 3 ""`, `"message": "Scaling request received.`},
		"POST /api/v1/apply":                                                         {`{"config":"x: 1","source":"s","if":7}`, `t-deploy: apply x: 1 source="s" keep=false only="" message="" wait=false if=7`, `"generation": 8`},
		"POST /api/v1/plan":                                                          {`{"config":"x: 1"}`, `plan x: 1 keep=false only=""`, `"generation": 7`},
		"PUT /api/v1/applications/app":                                               {`{"import_path":"a:b"}`, `t-deploy: apply {"import_path":"a:b"} of app source="" keep=true only="app" message="" wait=false if=0`, `"revision": 5`},
		"POST /api/v1/applications/app/plan":                                         {`{"import_path":"a:b","name":"app"}`, `plan {"import_path":"a:b","name":"app"} of app keep=true only="app"`, `"generation"`},
		"GET /api/v1/applications/app/plan?revision=2":                               {"", "plan rollback app 2", `"applications"`},
		"PATCH /api/v1/applications/app":                                             {`{"deployments":{"D":{"num_replicas":null}}}`, `t-deploy: patch app {"deployments":{"D":{"num_replicas":null}}} 0`, `"changed"`},
		"PATCH /api/v1/applications/app/plan":                                        {`{"deployments":{"D":{"num_replicas":2}}}`, `plan patch app {"deployments":{"D":{"num_replicas":2}}}`, `"generation"`},
		"GET /api/v1/settings":                                                       {"", "settings", `"generation": 7`},
		"PATCH /api/v1/settings":                                                     {`{"target_capacity":null,"http_options":{"root_path":"/x"}}`, `t-deploy: set null {"root_path":"/x"}`, `"warnings"`},
		"PATCH /api/v1/settings/plan":                                                {`{"target_capacity":50}`, `plan settings 50 `, `"changes"`},
		"DELETE /api/v1/applications/app":                                            {"", "t-deploy: delete app", `"generation": 8`},
		"GET /api/v1/requests?app=app&kept=slow&status=200&longer_than_ms=5&limit=7": {"", "requests {App:app Kept:slow Status:200 LongerThan:5ms Limit:7}", `"requests"`},
		"GET /api/v1/requests/order%2F7":                                             {"", "request order/7", `"request_id": "order/7"`},
		"GET /api/v1/applications/app/history":                                       {"", "history app", `"app": "app"`},
		"GET /api/v1/applications/app/config":                                        {"", "config app", `"app": "app"`},
		"POST /api/v1/applications/app/rollback":                                     {"", `t-deploy: rollback app 0 ""`, `"revision": 6`},
		"POST /api/v1/applications/app/rollback?":                                    {`{"revision":2,"message":"bad"}`, `t-deploy: rollback app 2 "bad"`, `"revision": 6`},
		"POST /api/v1/applications/app/pause":                                        {"", "t-deploy: pause app", `"generation": 8`},
		"POST /api/v1/applications/app/resume":                                       {"", "t-deploy: resume app", `"message": "it waits"`},
		"POST /api/v1/applications/app/restart":                                      {"", "t-deploy: restart app//", `"generation": 8`},
		"POST /api/v1/applications/app/deployments/D/restart":                        {"", "t-deploy: restart app/D/", `"generation": 8`},
		"POST /api/v1/applications/a%20b/deployments/D/replicas/D%23001/restart":     {"", "t-deploy: restart a b/D/D#001", `"generation": 8`},
		"GET /api/v1/why":                                                            {"", "why", `"sentence": "all is well"`},
		"GET /api/v1/why/app?revision=3":                                             {"", "why application app 3", `"kind": "application"`},
		"GET /api/v1/why/app/D":                                                      {"", "why deployment app/D 0", `"kind": "deployment"`},
		"GET /api/v1/why/app/D/D%23001":                                              {"", "why replica app/D/D#001 0", `"kind": "replica"`},
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			o := operate(t)
			w := o.ask(t, helvetype.RoleDeploy, request, want.body)
			if w.Code != 200 || !strings.Contains(w.Body.String(), want.answer) || o.operator.last() != want.asked {
				t.Errorf("%d: %s\nasked %s\nwant  %s", w.Code, w.Body, o.operator.last(), want.asked)
			}
			if tag := fmt.Sprintf("%q", fmt.Sprint(o.operator.Generation())); w.Header().Get("ETag") != tag {
				t.Errorf("ETag %s, want %s", w.Header().Get("ETag"), tag)
			}
			changes := strings.HasPrefix(want.asked, "t-deploy")
			if entries := o.set.Audit.Entries(10); changes != (len(entries) == 1) || changes && (entries[0].Author.Name != "t-deploy" || entries[0].Author.Address != "127.0.0.1") {
				t.Errorf("audit: %+v", entries)
			} else if strings.HasPrefix(want.asked, "t-deploy: patch") && entries[0].Detail != "D.num_replicas=null" {
				t.Errorf("audit: %q", entries[0].Detail)
			}
		})
	}
}

// TestRoles: each route is open to its role and those above it, and to no other one.
func TestRoles(t *testing.T) {
	t.Parallel()
	rank := []helvetype.Role{"", helvetype.RoleRead, helvetype.RoleOperate, helvetype.RoleDeploy}
	for _, r := range routes() {
		if r.operation == "profile" || r.operation == "metrics" {
			continue // profiles take time
		}
		t.Run(r.method+" "+r.path, func(t *testing.T) {
			t.Parallel()
			o := operate(t)
			path := strings.NewReplacer("{app}", "app", "{deployment}", "D", "{replica}", "R", "{name}", "t").Replace(r.path)
			for i, role := range rank {
				may := i >= token.Rank(r.role) || r.role == helvetype.RoleRead && !r.private
				w := o.ask(t, role, r.method+" "+path, "")
				if refused := w.Code == 401 || w.Code == 403; refused == may {
					t.Errorf("role %q: %d %s", role, w.Code, w.Body)
				}
				if want := 401; role == "" && !may && (w.Code != want || w.Header().Get("WWW-Authenticate") == "") {
					t.Errorf("without a token: %d", w.Code)
				}
				if w := o.send(t, o.open, o.tokens[role], r.method+" "+path, ""); role == "" && w.Code != 401 {
					t.Errorf("off the loopback interface without a token: %d", w.Code)
				}
			}
			if w := o.send(t, o.unix, "", r.method+" "+path, ""); w.Code == 401 || w.Code == 403 {
				t.Errorf("over the socket: %d", w.Code)
			}
		})
	}
}

// TestWhoAmI: an author learns the name, the role and the way by which the node knows it.
func TestWhoAmI(t *testing.T) {
	t.Parallel()
	o := operate(t)
	ask := func(s *http.Server, text string) (who rest.Who, status int) {
		w := o.send(t, s, text, "GET /api/v1/whoami", "")
		if err := json.Unmarshal(w.Body.Bytes(), &who); err != nil {
			t.Fatal(err)
		}
		return who, w.Code
	}
	for role, text := range o.tokens {
		for name, s := range map[string]*http.Server{"loopback": o.tcp, "open": o.open} {
			if who, status := ask(s, text); status != 200 || who != (rest.Who{Name: "t-" + string(role), Role: role, How: "token"}) {
				t.Errorf("%s, token of %s: %d %+v", name, role, status, who)
			}
		}
	}
	if who, status := ask(o.tcp, ""); status != 200 || who != (rest.Who{Role: helvetype.RoleRead, How: "loopback"}) {
		t.Errorf("without a token: %d %+v", status, who)
	}
	if who, status := ask(o.unix, ""); status != 200 || who.Role != helvetype.RoleDeploy || who.How != "socket" || who.Name == "" {
		t.Errorf("over the socket: %d %+v", status, who)
	}
	for name, s := range map[string]*http.Server{"loopback": o.tcp, "open": o.open} {
		if _, status := ask(s, "helve_x"); status != 401 {
			t.Errorf("%s, a wrong token: %d", name, status)
		}
	}
	if _, status := ask(o.open, ""); status != 401 {
		t.Errorf("off the loopback interface, without a token: %d", status)
	}
}

// TestAuthorization: a header that is no token is refused also where reading needs none: the client learns that the node does not know it.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	o := operate(t)
	for name, header := range map[string]string{
		"unknown": "Bearer helve_x", "empty": "Bearer ", "a scheme of passwords": "Basic YTpi", "no scheme": o.tokens[helvetype.RoleDeploy],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, request := range []string{"GET /api/v1/status", "DELETE /api/v1/applications/app"} {
				if w := o.ask(t, "", request, "", "Authorization: "+header); w.Code != 401 || !strings.Contains(w.Body.String(), `"next"`) {
					t.Errorf("%s: %d %s", request, w.Code, w.Body)
				}
			}
		})
	}
	if w := o.ask(t, helvetype.RoleDeploy, "GET /api/v1/status", "", "Authorization: Bearer x"); w.Code != 401 {
		t.Errorf("two headers: %d", w.Code)
	}
}

// TestRefusalsAreInTheAuditLog: a request without a token, with a wrong one, with a role that is too low, or of a web page has an entry with its address, and the token is in none.
func TestRefusalsAreInTheAuditLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		role               helvetype.Role
		request, header    string
		operation, by, err string
	}{
		"no token":       {"", "DELETE /api/v1/applications/app", "", "delete", "-", "needs a token with the role deploy"},
		"no token, logs": {"", "GET /api/v1/logs?app=x", "", "logs", "-", "needs a token with the role read"},
		"a wrong token":  {"", "GET /api/v1/status", "Authorization: Bearer helve_guess", "request", "-", "does not know this token"},
		"a password":     {"", "GET /api/v1/status", "Authorization: Basic helve_guess", "request", "-", "must be"},
		"a low role":     {helvetype.RoleRead, "POST /api/v1/applications/app/restart", "", "restart", "t-read", "needs operate"},
		"a plan":         {helvetype.RoleOperate, "POST /api/v1/plan", "", "plan", "t-operate", "needs deploy"},
		"a web page":     {helvetype.RoleDeploy, "GET /api/v1/status", "Origin: http://evil.example", "request", "-", "may not use this"},
		"another site":   {helvetype.RoleDeploy, "GET /api/v1/status", "Sec-Fetch-Site: cross-site", "request", "-", "may not use this"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := operate(t)
			var headers []string
			if c.header != "" {
				headers = []string{c.header}
			}
			if w := o.ask(t, c.role, c.request, "", headers...); w.Code != 401 && w.Code != 403 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			all := o.set.Audit.Entries(10)
			if len(all) != 1 {
				t.Fatalf("%+v", all)
			}
			e := all[0]
			_, path, _ := strings.Cut(c.request, " ")
			path, _, _ = strings.Cut(path, "?")
			if e.Operation != c.operation || e.Author.Name != c.by || e.Author.Address != "127.0.0.1" || e.Object != path || !strings.Contains(e.Error, c.err) {
				t.Errorf("%+v", e)
			}
			if b, err := json.Marshal(e); err != nil || strings.Contains(string(b), "guess") {
				t.Errorf("%s, %v", b, err)
			}
		})
	}
	o := operate(t)
	for range 100 {
		o.ask(t, "", "DELETE /api/v1/applications/app", "")
	}
	if n := len(o.set.Audit.Entries(1000)); n < audit.RefusedMax || n > 2*audit.RefusedMax { // a minute may end between
		t.Errorf("%d entries", n)
	}
}

// TestIfMatch: a change that was made for another generation is refused, and changes nothing.
func TestIfMatch(t *testing.T) {
	t.Parallel()
	for header, status := range map[string]int{`"7"`: 200, `"6"`: 412, `"6", "7"`: 200, "*": 200, "7": 400, `W/"7"`: 412, `"x"`: 412, `"0"`: 412, "": 400} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			for _, request := range []string{"DELETE /api/v1/applications/app", "PUT /api/serve/applications/", "PATCH /api/v1/applications/app"} {
				o := operate(t)
				body := ""
				if !strings.HasPrefix(request, "DELETE") {
					body = "{}"
				}
				w := o.ask(t, helvetype.RoleDeploy, request, body, "If-Match: "+header)
				if w.Code != status || (status == 200) != (o.operator.last() != "") {
					t.Errorf("%s: %d %s, asked %q", request, w.Code, w.Body, o.operator.last())
				}
				if status != 400 && w.Header().Get("ETag") == "" {
					t.Error("no ETag: a client that was refused does not learn the generation")
				}
			}
		})
	}
}

// TestRefusedGenerations: also a change of tokens looks at the header, and each refusal is in the audit log.
func TestRefusedGenerations(t *testing.T) {
	t.Parallel()
	for _, request := range []string{`POST /api/v1/tokens {"name":"ci","role":"read"}`, "DELETE /api/v1/tokens/t-read ", "DELETE /api/v1/applications/app "} {
		for _, tag := range []string{`"6"`, `W/"7"`, "7"} {
			t.Run(request+" "+tag, func(t *testing.T) {
				t.Parallel()
				o := operate(t)
				method, rest, _ := strings.Cut(request, " ")
				path, body, _ := strings.Cut(rest, " ")
				if w := o.ask(t, helvetype.RoleDeploy, method+" "+path, body, "If-Match: "+tag); w.Code != 412 && w.Code != 400 {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				if all := o.set.Audit.Entries(10); len(all) != 1 || all[0].Error == "" || all[0].Author.Name != "t-deploy" {
					t.Errorf("%+v", all)
				}
				if list, err := o.set.Tokens.List(); err != nil || len(list) != 4 {
					t.Errorf("%+v, %v", list, err)
				}
			})
		}
	}
}

// TestTwoOperators: of two changes for one generation one is done.
func TestTwoOperators(t *testing.T) {
	t.Parallel()
	o := operate(t)
	var both sync.WaitGroup
	codes := make([]int, 2)
	for i := range codes {
		both.Go(func() {
			codes[i] = o.ask(t, helvetype.RoleOperate, "POST /api/v1/applications/app/deployments/D/scale", `{"target_num_replicas": 1}`, `If-Match: "7"`).Code
		})
	}
	both.Wait()
	if codes[0]+codes[1] != 200+412 {
		t.Errorf("%v", codes)
	}
}

// TestStatusesOfErrors: the status follows the code, and the body has the next command.
func TestStatusesOfErrors(t *testing.T) {
	t.Parallel()
	for code, status := range map[helvetype.Code]int{
		helvetype.CodeInvalidArgument: 400, helvetype.CodeNotFound: 404, helvetype.CodeAborted: 409, helvetype.CodeFailedPrecondition: 412,
		helvetype.CodeUnimplemented: 501, helvetype.CodeUnavailable: 503, helvetype.CodeInternal: 500, helvetype.CodeResourceExhausted: 429,
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			o := operate(t)
			want := helvetype.OperationError{Code: code, Message: "no", Next: "helve status", Mistakes: []helvetype.Mistake{{File: "serve.yaml", Line: 3, Column: 5, Message: "m", Excerpt: "x\n^"}}}
			o.operator.fail(&want)
			w := o.ask(t, helvetype.RoleDeploy, "DELETE /api/v1/applications/app", "")
			var got helvetype.OperationError
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != status || cmp.Diff(want, got) != "" {
				t.Errorf("%d, %+v, %v", w.Code, got, err)
			}
			if entries := o.set.Audit.Entries(1); len(entries) != 1 || entries[0].Error != "no" {
				t.Errorf("audit: %+v", entries)
			}
		})
	}
	o := operate(t)
	o.operator.fail(errors.New("the disk is full"))
	if w := o.ask(t, helvetype.RoleDeploy, "DELETE /api/v1/applications/app", ""); w.Code != 500 || !strings.Contains(w.Body.String(), "the disk is full") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestBodies: a body that the document does not allow is refused with the field, and reaches no operator.
func TestBodies(t *testing.T) {
	t.Parallel()
	const scale, apply, one, rollback = "POST /api/v1/applications/app/deployments/D/scale", "POST /api/v1/apply", "PUT /api/v1/applications/app", "POST /api/v1/applications/app/rollback"
	for name, c := range map[string]struct{ request, body, text string }{
		"none":                {scale, "", "needs a body"},
		"no JSON":             {scale, "{\n  x", "line 2, column 3"},
		"a part":              {scale, `{"target_num_replicas":`, "it ends within"},
		"two":                 {scale, `{"target_num_replicas":1} {}`, "something behind"},
		"null":                {scale, "null", "must be an object, is null"},
		"a missing field":     {scale, "{}", "target_num_replicas is missing"},
		"null for a number":   {scale, `{"target_num_replicas":null}`, "target_num_replicas must be an integer"},
		"a string":            {scale, `{"target_num_replicas":"3"}`, `must be an integer, is "3"`},
		"a fraction":          {scale, `{"target_num_replicas":1.5}`, "must be an integer"},
		"below 0":             {scale, `{"target_num_replicas":-1}`, "must be at least 0, is -1"},
		"too large":           {scale, `{"target_num_replicas":1e400}`, "must be an integer"},
		"another case":        {scale, `{"Target_Num_Replicas":1}`, "target_num_replicas is missing"},
		"another field":       {scale, `{"target_num_replicas":1,"x":1}`, "there is no field x; there is target_num_replicas, message"},
		"null for a string":   {apply, `{"config":null}`, "config must be a string"},
		"a negative number":   {apply, `{"config":"","if":-1}`, "if must be at least 0"},
		"an array":            {one, "[]", "must be an application"},
		"another name":        {one, `{"name":"x"}`, `the path has "app"`},
		"a whole file":        {one, `{"applications":[]}`, "the body is a whole file"},
		"a negative revision": {rollback, `{"revision":-2}`, "revision must be at least 0"},
		"a field twice":       {rollback, `{"revision":2,"message":"m","revision":3}`, "revision is there twice"},
		"a field twice below": {"PATCH /api/v1/applications/app", `{"deployments":{"D":{"user_config":[1,{"a":"b","b":{},"a":"b"}]}}}`, "deployments.D.user_config[1].a is there twice"},
		"an escaped name":     {one, `{"import_path":"a:b","import\u005fpath":"c:d"}`, "import_path is there twice"},
		"no UTF-8":            {rollback, "{\"message\":\"\xff\"}", "not UTF-8"},
		"no object":           {"PATCH /api/v1/applications/app", "[]", "must be an object"},
		"a plan of no object": {"PATCH /api/v1/applications/app/plan", "[]", "must be an object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := operate(t)
			w := o.ask(t, helvetype.RoleDeploy, c.request, c.body)
			var f Failure
			if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil || w.Code != 400 || !strings.Contains(f.Message, c.text) || o.operator.last() != "" {
				t.Errorf("%d %s, %v; asked %q", w.Code, w.Body, err, o.operator.last())
			}
		})
	}
	o := operate(t)
	if w := o.ask(t, helvetype.RoleDeploy, "PUT /api/serve/applications/", strings.Repeat("x", bodyMax+1)); w.Code != 413 {
		t.Errorf("a large body: %d", w.Code)
	}
}

// TestPathsAreExact: a path with empty parts or dots is no other path.
func TestPathsAreExact(t *testing.T) {
	t.Parallel()
	o := operate(t)
	for _, path := range []string{"//events", "/api/v1/../v1/status", "/api/v1/applications/", "/api/v1/applications/./history", "/api/v1/applications//history"} {
		if w := o.ask(t, helvetype.RoleDeploy, "GET "+path, ""); w.Code != 404 {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Location"))
		}
	}
}

// TestDetailsOfFiles: applications of files have their configuration, and the filter of the reference finds them.
func TestDetailsOfFiles(t *testing.T) {
	t.Parallel()
	o := operate(t)
	for query, n := range map[string]int{"": 1, "?api_type=declarative": 1, "?api_type=imperative": 0} {
		var in details.Instance
		w := o.ask(t, "", "GET /api/serve/applications/"+query, "")
		if err := json.Unmarshal(w.Body.Bytes(), &in); err != nil || len(in.Applications) != n || in.TargetCapacity == nil || *in.TargetCapacity != 50 || in.HTTPOptions.Port == 1 || in.HTTPOptions.RootPath == nil || *in.HTTPOptions.RootPath != "/v1" {
			t.Errorf("%s: %d applications, %v", query, len(in.Applications), err)
		}
		if app := in.Applications["app"]; n > 0 && (app.Source != "declarative" || string(app.DeployedAppConfig) == "null") {
			t.Errorf("%s: source %s, %s", query, app.Source, app.DeployedAppConfig)
		}
	}
	if w := o.ask(t, "", "GET /api/v1/applications/app", ""); w.Code != 200 || w.Header().Get("ETag") != `"7"` {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := o.ask(t, "", "GET /api/v1/applications/nope", ""); w.Code != 404 || !strings.Contains(w.Body.String(), `no application \"nope\"; there is app`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestNodeWithoutOperations answers questions, and says what it cannot do.
func TestNodeWithoutOperations(t *testing.T) {
	t.Parallel()
	a := New(Settings{Node: fakeNode{telemetry.NewEvents(nil)}})
	defer a.Close()
	o := operated{Server: a}
	for request, status := range map[string]int{
		"GET /api/serve/applications/": 200, "GET /api/v1/status": 200, "GET /api/v1/applications": 200, "GET /api/v1/applications/app/history": 501, "DELETE /api/v1/applications/app": 501,
		"GET /api/v1/tokens": 501, "GET /api/v1/logs": 501,
	} {
		if w := o.send(t, a.unix, "", request, ""); w.Code != status {
			t.Errorf("%s: %d %s", request, w.Code, w.Body)
		}
	}
}

// TestTokens: tokens are made, listed without their texts, used and removed, and each change is in the audit log.
func TestTokens(t *testing.T) {
	t.Parallel()
	o := operate(t)
	w := o.ask(t, helvetype.RoleDeploy, "POST /api/v1/tokens", `{"name":"ci","role":"read"}`)
	var made rest.NewToken
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	const read = "GET /api/v1/audit"
	if w := o.send(t, o.open, made.Token, read, ""); w.Code != 200 {
		t.Errorf("with the token: %d %s", w.Code, w.Body)
	}
	if w := o.ask(t, helvetype.RoleDeploy, "GET /api/v1/tokens", ""); !strings.Contains(w.Body.String(), `"name": "ci"`) || strings.Contains(w.Body.String(), made.Token) {
		t.Errorf("%s", w.Body)
	}
	for request, status := range map[string]int{`{"name":"ci","role":"read"}`: 409, `{"name":"x","role":"root"}`: 400, `{"name":"","role":"read"}`: 400} {
		if w := o.ask(t, helvetype.RoleDeploy, "POST /api/v1/tokens", request); w.Code != status {
			t.Errorf("%s: %d %s", request, w.Code, w.Body)
		}
	}
	if w := o.ask(t, helvetype.RoleDeploy, "DELETE /api/v1/tokens/ci", ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := o.ask(t, helvetype.RoleDeploy, "DELETE /api/v1/tokens/ci", ""); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := o.send(t, o.open, made.Token, read, ""); w.Code != 401 {
		t.Errorf("with the removed token: %d", w.Code)
	}
	var list rest.AuditList
	if err := json.Unmarshal(o.ask(t, helvetype.RoleRead, read, "").Body.Bytes(), &list); err != nil || len(list.Entries) != 7 || list.Entries[0].Operation != "add_token" || list.Entries[0].Object != "token ci" || list.Entries[6].Operation != "request" {
		t.Errorf("%+v, %v", list.Entries, err)
	}
	if b, _ := json.Marshal(list); bytes.Contains(b, []byte(made.Token)) {
		t.Error("the audit log has the token")
	}
}

// TestRayVersion: the clients of the reference compare the version first.
func TestRayVersion(t *testing.T) {
	t.Parallel()
	o := operate(t)
	if w := o.ask(t, "", "GET /api/ray/version", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"ray_version": "`+rayReference+`"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// serveFuzzed serves a request over TCP with some headers.
func (o operated) serveFuzzed(r *http.Request, match, authorization string) *httptest.ResponseRecorder {
	for name, value := range map[string]string{"If-Match": match, "Authorization": authorization} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	o.tcp.Handler.ServeHTTP(w, r)
	return w
}

// TestProfileForms: the route of profiles asks for a kind and a time, and answers in the form that the client wants.
func TestProfileForms(t *testing.T) {
	t.Parallel()
	const path = "GET /api/v1/applications/app/deployments/D/replicas/D%23001/profile"
	for query, want := range map[string]struct{ asked, media, text string }{
		"":                            {"profile app/D/D#001 cpu 10s", "application/octet-stream", "\x1f\x8b"},
		"?kind=block&seconds=3":       {"profile app/D/D#001 block 3s", "application/octet-stream", "\x1f\x8b"},
		"?kind=heap&format=svg":       {"profile app/D/D#001 heap 10s", "image/svg+xml", "app/D/D#001 heap"},
		"?last=300&format=folded":     {"profile app/D/D#001 last 5m0s", "text/plain; charset=utf-8", "score 7\n"},
		"?format=folded":              {"profile app/D/D#001 cpu 10s", "text/plain; charset=utf-8", "score 7\n"},
		"?kind=stacks&format=text":    {"profile app/D/D#001 stacks 10s", "text/plain; charset=utf-8", "    score\n"},
		"?kind=cpu&format=pprof&kind": {"", "application/json", "is there 2 times"},
		"?kind=colour":                {"", "application/json", "must be cpu, heap, stacks or block"},
		"?seconds=301":                {"", "application/json", "must be a number from 1 to 300"},
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			o := operate(t)
			w := o.ask(t, helvetype.RoleOperate, path+query, "")
			if o.operator.last() != want.asked || w.Header().Get("Content-Type") != want.media || !strings.Contains(w.Body.String(), want.text) {
				t.Errorf("%d %q: %s\nasked %q", w.Code, w.Header().Get("Content-Type"), w.Body, o.operator.last())
			}
		})
	}
}
