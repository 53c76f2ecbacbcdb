package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/layout"
	"github.com/helve-serve/helve/internal/profile"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/shown"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/worker"
	"github.com/spf13/cobra"
)

// fakeNode is a node with the application shop, which has the deployment Ranker with one replica.
type fakeNode struct {
	events  *telemetry.Events
	rollout *helvetype.Rollout // of shop
}

func (n fakeNode) Status() helvetype.Status {
	return helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {
		Status: helvetype.ApplicationRunning, RoutePrefix: "/", DeployedAt: time.Unix(1000, 0), Rollout: n.rollout,
		Deployments: map[string]helvetype.DeploymentStatus{"Ranker": {
			Status: helvetype.DeploymentHealthy, Trigger: helvetype.TriggerConfigUpdateCompleted, Wanted: 1, Ready: 1,
			Replicas: []helvetype.ReplicaStatus{{ID: "Ranker#001", State: helvetype.ReplicaRunning, PID: 7, Ready: true}},
		}},
	}}}
}

func (n fakeNode) Applications() map[string]deploy.DeployedApp {
	return map[string]deploy.DeployedApp{"shop": {Revision: 3, Deployments: map[string]deploy.DeployedDeployment{"Ranker": {NumReplicas: 1, Ingress: true}}}}
}
func (n fakeNode) HTTP() string                                   { return "http://127.0.0.1:8000" }
func (n fakeNode) URLs() []string                                 { return []string{"unix:/run/http.sock", "http://127.0.0.1:8000"} }
func (n fakeNode) Draining() bool                                 { return false }
func (n fakeNode) Events() *telemetry.Events                      { return n.events }
func (n fakeNode) Calls(helvetype.Object, int) helvetype.CallList { return helvetype.CallList{} }
func (n fakeNode) Metrics() (s telemetry.Snapshot)                { return s }

// fakeOperator keeps the operations that it is asked for, and answers with err, or with fixed values.
type fakeOperator struct {
	mu    sync.Mutex
	asked []string
	apply helvetype.ApplyRequest
	err   error
	fails bool // applications do not run
	found map[string]helvetype.Outcome
	state string // of revision 5

	rollout *helvetype.Rollout // of shop
}

func (o *fakeOperator) did(format string, args ...any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, fmt.Sprintf(format, args...))
	return o.err
}

func (o *fakeOperator) Apply(_ context.Context, _ helvetype.Author, r helvetype.ApplyRequest) (a helvetype.ApplyAnswer, err error) {
	o.apply = r
	out := helvetype.Outcome{Change: "changed", Revision: 4}
	if o.fails {
		out.Error = "Ranker: its constructor has failed: no model"
	}
	all := map[string]helvetype.Outcome{"shop": out}
	maps.Copy(all, o.found)
	return helvetype.ApplyAnswer{Generation: 9, Applications: all, Warnings: []string{"grpc_options has no effect"}}, o.did("apply")
}

func (o *fakeOperator) Plan(_ context.Context, r helvetype.ApplyRequest) (helvetype.Plan, error) {
	o.apply = r
	return plan(), o.did("plan")
}

func (o *fakeOperator) PlanRollback(_ context.Context, app string, revision int) (helvetype.Plan, error) {
	return plan(), o.did("plan rollback %s %d", app, revision)
}

func (o *fakeOperator) PlanPatch(_ context.Context, app string, options json.RawMessage) (helvetype.Plan, error) {
	return plan(), o.did("plan patch %s %s", app, options)
}

func (o *fakeOperator) AllSettings(context.Context) (helvetype.Settings, error) {
	return helvetype.Settings{Generation: 7}, o.did("settings")
}

func (o *fakeOperator) ChangeSettings(context.Context, helvetype.Author, helvetype.SettingsChange) (helvetype.SettingsOutcome, error) {
	return helvetype.SettingsOutcome{Warnings: []string{}}, o.did("set")
}

func (o *fakeOperator) PlanSettings(context.Context, helvetype.SettingsChange) (helvetype.SettingsPlan, error) {
	return helvetype.SettingsPlan{Changes: []helvetype.ValueChange{}, Warnings: []string{}}, o.did("plan settings")
}

func (o *fakeOperator) Delete(_ context.Context, _ helvetype.Author, app string) error {
	return o.did("delete %s", app)
}

func (o *fakeOperator) Scale(_ context.Context, _ helvetype.Author, app, deployment string, n int, why string) error {
	return o.did("scale %s %s %d %s", app, deployment, n, why)
}

func (o *fakeOperator) Restart(_ context.Context, _ helvetype.Author, app, deployment, replica string) error {
	return o.did("restart %s %s %s", app, deployment, replica)
}

func (o *fakeOperator) Rollback(_ context.Context, _ helvetype.Author, app string, revision int, message string) (helvetype.Outcome, error) {
	return helvetype.Outcome{Change: "changed", Revision: 4}, o.did("rollback %s %d %s", app, revision, message)
}

func (o *fakeOperator) Pause(_ context.Context, _ helvetype.Author, app string) error {
	return o.did("pause %s", app)
}

func (o *fakeOperator) Resume(_ context.Context, _ helvetype.Author, app string) (string, error) {
	return "the rollout waits at step 1 of 3", o.did("resume %s", app)
}

func (o *fakeOperator) Requests(context.Context, helvetype.RequestQuery) (helvetype.RequestList, error) {
	return helvetype.RequestList{}, o.did("requests")
}

func (o *fakeOperator) Request(_ context.Context, id string) (helvetype.RequestTrace, error) {
	return helvetype.RequestTrace{}, o.did("request %s", id)
}

func (o *fakeOperator) Patch(_ context.Context, _ helvetype.Author, app string, options json.RawMessage, _ uint64) (helvetype.Outcome, error) {
	return helvetype.Outcome{Change: "changed", Revision: 5, Warnings: []string{"target_ongoing_requests is above max_ongoing_requests"}}, o.did("patch %s %s", app, options)
}

func (o *fakeOperator) History(_ context.Context, app string) (helvetype.History, error) {
	if o.state != "" {
		return helvetype.History{App: app, Revisions: []helvetype.RevisionEntry{{Number: 5, State: o.state}}}, o.did("history %s", app)
	}
	return helvetype.History{App: app, Revisions: []helvetype.RevisionEntry{
		{Number: 4, State: "running", By: "ci", RollbackOf: 2, Message: "back to the small model"},
		{Number: 3, State: "failed", By: "anna", From: "/srv/shop/serve.yaml", Reason: "140 of 200 calls of the new revision have failed, and 1 of 300 of the old one", Changes: []string{"Ranker: new replicas (version)"}},
	}}, o.did("history %s", app)
}

func (o *fakeOperator) Config(_ context.Context, app string) (helvetype.EffectiveConfig, error) {
	return helvetype.EffectiveConfig{App: app, Revision: 4, Deployments: map[string][]helvetype.EffectiveValue{"Ranker": {
		{Path: "max_ongoing_requests", Value: json.RawMessage("10"), From: "override"},
		{Path: "ray_actor_options.runtime_env.env_vars.KEY", Value: json.RawMessage(`"***"`), From: "file"},
	}}}, o.did("config %s", app)
}

func (o *fakeOperator) Submitted(_ context.Context, app string) ([]byte, error) {
	return []byte(`{"name":"shop","import_path":"app:app","args":{"text":"a\nb"}}`), o.did("submitted %s", app)
}

func (o *fakeOperator) Overview(context.Context) (helvetype.Overview, error) {
	return helvetype.Overview{Sentence: "1 of 2 applications has trouble", Troubles: []helvetype.Trouble{{Sentence: "application shop is UNHEALTHY", Next: "helve why shop"}}}, o.did("why")
}

func (o *fakeOperator) Explain(_ context.Context, of helvetype.Object, _ int) (helvetype.Explanation, error) {
	return helvetype.Explanation{
		Object: of, Sentence: "The replica Ranker#002 does not start: its constructor raises RuntimeError, and this has happened three times in a row.", Next: "another start in 8 s",
		Timeline: []helvetype.Event{{ID: 7, Object: of, From: "STARTING", To: "STOPPING", Reason: "start_failed", Message: "RuntimeError: no model\nline"}},
	}, o.did("why %s", of)
}

func (o *fakeOperator) LastProfile(context.Context, helvetype.Object, time.Duration) ([]byte, error) {
	return nil, nil
}

func (o *fakeOperator) Profiling(context.Context) (profile.Continuous, error) {
	return profile.Continuous{}, nil
}

func (o *fakeOperator) Tracing(_ context.Context, _ helvetype.Author, c *helvetype.TracingChange) (helvetype.Tracing, error) {
	if c == nil {
		return helvetype.Tracing{SlowFrom: 1}, o.did("tracing")
	}
	t := helvetype.Tracing{Endpoint: "http://c:4318/v1/traces", Sent: 12, Dropped: 3}
	if c.Ratio != nil {
		t.Ratio = *c.Ratio
	}
	if c.SlowFrom != nil {
		t.SlowFrom = *c.SlowFrom
	}
	return t, o.did("tracing %v %v %v", t.Ratio, t.SlowFrom, c.Reset)
}

func (o *fakeOperator) SetProfiling(context.Context, bool) (profile.Continuous, error) {
	return profile.Continuous{}, nil
}

func (o *fakeOperator) Logs(_ context.Context, q helvetype.LogQuery, yield func(*helvetype.LogLine, uint64) error) error {
	if err := o.did("logs %s %s %s %v", q.App, q.Deployment, q.Replica, q.Follow); err != nil {
		return err
	}
	return yield(&helvetype.LogLine{Time: time.Unix(5, 0), App: "shop", Deployment: "Ranker", Replica: "Ranker#001", Text: "loaded"}, 0)
}
func (o *fakeOperator) Shutdown(context.Context, helvetype.Author) error { return o.did("shutdown") }
func (o *fakeOperator) Profile(_ context.Context, of helvetype.Object, kind profile.Kind, d time.Duration) ([]byte, error) {
	p := &profile.Profile{Types: []profile.Type{{Kind: "cpu", Unit: "nanoseconds"}}, Functions: []profile.Function{{Name: "score"}}}
	p.Samples = []profile.Sample{{Stack: []profile.Frame{{}}, Values: []int64{7000}}}
	return p.Encode(), o.did("profile %s %s %s", of, kind, d)
}
func (o *fakeOperator) Settings(context.Context) (s helvetype.NodeSettings, err error) {
	return s, nil
}
func (o *fakeOperator) Generation() uint64 { return 8 }

// plan is a plan with a change of each kind.
func plan() helvetype.Plan {
	return helvetype.Plan{Generation: 8, Warnings: []string{"grpc_options has no effect"}, Applications: []helvetype.ApplicationPlan{
		{Name: "old", Change: "deleted"},
		{
			Name: "shop", Change: "changed", Notes: []string{"it repeats revision 2"}, Fields: []helvetype.ValueChange{{Path: "route_prefix", Update: "nothing", Before: json.RawMessage(`"/"`), After: json.RawMessage(`"/shop"`), BeforeFrom: "code", AfterFrom: "file"}},
			Deployments: []helvetype.DeploymentPlan{
				{Name: "Front", Change: "unchanged", Update: "nothing", Replicas: 1, Wanted: 1, Next: 1, Submitted: 1},
				{Name: "Cache", Change: "changed", Update: "nothing", Replicas: 2, Wanted: 2, Next: 3, Submitted: 3, SubmittedFrom: "file", ScaledBy: "ben", Options: []helvetype.ValueChange{{Path: "num_replicas", Update: "nothing", Before: json.RawMessage("1"), After: json.RawMessage("3"), BeforeFrom: "file", AfterFrom: "file"}}},
				{
					Name: "Ranker", Change: "changed", Update: "new replicas", Reason: "the code has changed", Replicas: 3, Wanted: 4, Next: 4, Submitted: 2, SubmittedFrom: "code", ScaledBy: "anna", Surge: 1,
					Fit:     "it wants 8 GPUs, and the machine has 4",
					Options: []helvetype.ValueChange{{Path: "max_ongoing_requests", Update: "in place", Before: json.RawMessage("5"), After: json.RawMessage("10"), BeforeFrom: "default", AfterFrom: "file"}, {Path: "user_config", Update: "in place", After: json.RawMessage(`{"model":"` + strings.Repeat("x", 200) + `"}`)}},
				},
			},
		},
	}}
}

// startFake serves a fake node, and gives its address.
func startFake(t *testing.T, o *fakeOperator) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := admin.New(admin.Settings{Node: fakeNode{telemetry.NewEvents(nil), o.rollout}, Operator: o, Version: "1.2.3"})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// output runs a command line, and gives its exit status, and its standard output with the error behind it.
func output(t *testing.T, args ...string) (status int, text string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stdout := os.Stdout
	os.Stdout = file
	settings := Settings{Program: "helve"}
	root := &cobra.Command{Use: "helve", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(New(settings)...)
	root.AddCommand(RayServe(settings))
	root.SetArgs(args)
	root.SetContext(t.Context())
	err = root.Execute()
	os.Stdout = stdout
	file.Seek(0, io.SeekStart) //nolint:errcheck // it is a file
	b, rerr := io.ReadAll(file)
	if rerr != nil {
		t.Fatal(rerr)
	}
	text = string(b)
	if err != nil {
		text += "error: " + TextOf(err) + "\n"
	}
	return StatusOf(err), text
}

// TestOperations: each command asks for its operation, and its answer fits 80 columns.
func TestOperations(t *testing.T) { //nolint:paralleltest // the standard output is one
	t.Setenv("VIRTUAL_ENV", "/srv/venv")
	t.Setenv("HELVE_PYTHON", "")
	t.Setenv("RAY_DASHBOARD_ADDRESS", "")
	file := filepath.Join(t.TempDir(), "serve.yaml")
	if err := os.WriteFile(file, []byte("applications: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, x := range map[string]struct {
		asked string // the operation
		says  []string
	}{
		"deploy " + file:                      {"apply", []string{"warning: grpc_options has no effect", "shop   changed   revision 4", "helve status -w"}},
		"deploy --wait " + file:               {"apply", []string{"shop   changed   revision 4   runs"}},
		"deploy --dry-run " + file:            {"plan", []string{"~ application shop: changed"}},
		"plan " + file:                        {"plan", []string{"- application old: deleted", "~ route_prefix   \"/\" (code) -> \"/shop\" (file)\n", "~ Ranker: new replicas (the code has changed)", "3 run, 4 wanted", "fit: it wants 8 GPUs", "scaled by anna, and stays so: the code has 2", "    it repeats revision 2\n", "scaled to 2 by ben: that ends, because the file has another num_replicas", "~ max_ongoing_requests   5 (default) -> 10 (file): in place", "The plan is for generation 8."}},
		"plan app:app n=3":                    {"plan", nil},
		"rollback shop 2 -m back":             {"rollback shop 2 back", []string{"revision 4"}},
		"rollback shop --wait":                {"history shop", []string{"revision 4   runs"}},
		"rollback shop --dry-run":             {"plan rollback shop 0", []string{"Ranker"}},
		"history shop":                        {"history shop", []string{"REVISION   AT", "4          ", "running   ci", "repeats revision 2", "failed: 140 of 200 calls"}},
		"config shop":                         {"submitted shop", []string{"import_path: app:app", "text: |-\n    a\n    b"}},
		"config":                              {"submitted shop", []string{"name: shop"}},
		"config --effective shop":             {"config shop", []string{"max_ongoing_requests", "override   10", `file       "***"`}},
		"tracing":                             {"tracing", []string{"sampled    only requests whose client says so", "slow       requests of 1s or more", "receiver   none"}},
		"tracing --ratio 0.25 --slow 250ms":   {"tracing 0.25 0.25 false", []string{"sampled    25 % of the requests", "slow       requests of 250ms or more", "receiver   http://c:4318/v1/traces", "spans      12 sent, 3 dropped"}},
		"tracing --ratio 0 --slow 0s -o json": {"tracing 0 0 false", []string{`"sampling_ratio": 0`, `"spans_dropped": 3`}},
		"tracing --reset":                     {"tracing 0 0 true", []string{"slow       none"}},
		"scale shop/Ranker 5 -m sale":         {"scale shop Ranker 5 sale", []string{"shop/Ranker wants 5 replicas"}},
		"set shop/Ranker max_ongoing_requests=10 ray_actor_options.num_cpus= version=v2": {`patch shop {"deployments":{"Ranker":{"max_ongoing_requests":10,"ray_actor_options":{"num_cpus":null},"version":"v2"}}}`, []string{"warning: target_ongoing_requests is above max_ongoing_requests", "revision 5"}},
		"set shop/Ranker --dry-run max_ongoing_requests=10":                              {`plan patch shop {"deployments":{"Ranker":{"max_ongoing_requests":10}}}`, []string{"Ranker"}},
		"set shop route_prefix=/x":                                                       {`patch shop {"route_prefix":"/x"}`, []string{"revision 5"}},
		"restart shop":                                                                   {"restart shop  ", []string{"shop restarts"}},
		"restart shop/Ranker/Ranker#001":                                                 {"restart shop Ranker Ranker#001", nil},
		"pause shop":                                                                     {"pause shop", []string{"helve resume shop goes on"}},
		"resume shop":                                                                    {"resume shop", []string{"the rollout waits at step 1 of 3"}},
		"delete shop":                                                                    {"delete shop", []string{"shop is being deleted"}},
		"shutdown --yes":                                                                 {"shutdown", nil},
		"logs":                                                                           {"logs    false", []string{" (shop/Ranker#001) loaded\n"}},
		"logs shop/Ranker --replica Ranker#001 -f":                                       {"logs shop Ranker Ranker#001 true", []string{"loaded"}},
		"why":                        {"requests", []string{"1 of 2 applications has trouble\n\n- application shop is UNHEALTHY\n  next: helve why shop\n"}},
		"why shop/Ranker/Ranker#002": {"why shop/Ranker/Ranker#002", []string{"and this has happened", "next: another start in 8 s", "start_failed (STOPPING): RuntimeError:"}},
		"profile Ranker#001 --seconds 3 --block -o -": {"profile shop/Ranker/Ranker#001 block 3s", []string{"\x1f\x8b"}},
		"profile shop --svg -o " + file + ".svg":      {"profile shop/Ranker/Ranker#001 cpu 10s", []string{"next: open it in a browser"}},
		"profile shop/Ranker --stacks":                {"profile shop/Ranker/Ranker#001 stacks 10s", []string{"7.0 us\n    score\n"}},
		"serve deploy " + file:                        {"apply", []string{"Sent deploy request successfully."}},
		"serve config":                                {"submitted shop", []string{"name: shop\nimport_path: app:app\n"}},
		"serve shutdown -y":                           {"shutdown", []string{"Sent shutdown request; applications will be deleted asynchronously."}},
	} {
		t.Run(args, func(t *testing.T) { //nolint:paralleltest // as above
			o := &fakeOperator{}
			address := startFake(t, o)
			status, text := output(t, append(strings.Fields(args), "--address", address)...)
			if strings.HasPrefix(args, "logs") && strings.Contains(args, "-f") {
				if status != 1 || !strings.Contains(text, rest.ErrEnded.Error()) { // the fake ends its lines
					t.Errorf("status %d: %s", status, text)
				}
			} else if status != 0 {
				t.Errorf("status %d: %s", status, text)
			}
			if !slices.Contains(o.asked, x.asked) {
				t.Errorf("it has asked for %q, want %q", o.asked, x.asked)
			}
			for _, want := range x.says {
				if !strings.Contains(text, want) {
					t.Errorf("%s; want %q", text, want)
				}
			}
			for line := range strings.Lines(text) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > layout.PageWidth && strings.Contains(strings.TrimSpace(line), " ") {
					t.Errorf("a line has %d columns: %s", n, line)
				}
			}
		})
	}
}

// TestServeDeployRefused: a deploy by the command line of Ray Serve of which an application is refused claims no success, and has the exit status of deploy.
func TestServeDeployRefused(t *testing.T) { //nolint:paralleltest // the standard output is one
	t.Setenv("RAY_DASHBOARD_ADDRESS", "")
	file := filepath.Join(t.TempDir(), "serve.yaml")
	if err := os.WriteFile(file, []byte("applications: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &fakeOperator{found: map[string]helvetype.Outcome{"cart": {Change: changeRefused, Error: "no module", Code: helvetype.CodeInvalidArgument}}}
	status, text := output(t, "serve", "deploy", file, "--address", startFake(t, o))
	if status != exitUsage || strings.Contains(text, "success") || !strings.Contains(text, "not deployed: cart") {
		t.Errorf("status %d: %s", status, text)
	}
}

// TestRequest: a request has the text of the file, and, for a node on this machine, the directory and the interpreter.
func TestRequest(t *testing.T) { //nolint:paralleltest // the environment is one
	t.Setenv("VIRTUAL_ENV", "/srv/venv")
	t.Setenv("HELVE_PYTHON", "")
	dir := t.TempDir()
	file := filepath.Join(dir, "serve.yaml")
	if err := os.WriteFile(file, []byte("applications: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		args  []string
		from  source
		local bool
		want  helvetype.ApplyRequest
	}{
		"a file":             {[]string{file}, source{}, true, helvetype.ApplyRequest{Name: file, Config: "applications: []\n", Dir: dir, Python: "/srv/venv/bin/python"}},
		"on another machine": {[]string{file}, source{}, false, helvetype.ApplyRequest{Name: file, Config: "applications: []\n"}},
		"the standard input": {[]string{"-"}, source{}, false, helvetype.ApplyRequest{Name: "stdin", Config: "of a pipe"}},
		"an import path": {
			[]string{"app:build", "n=3"}, source{name: "shop", routePrefix: "none"}, true,
			helvetype.ApplyRequest{Name: "app:build", Config: `{"applications":[{"args":{"n":"3"},"import_path":"app:build","name":"shop","route_prefix":null}]}`, Keep: true, Dir: here, Python: "/srv/venv/bin/python"},
		},
		"an executable": {[]string{"exec:/srv/ranker#hello"}, source{}, false, helvetype.ApplyRequest{Name: "exec:/srv/ranker#hello", Config: `{"applications":[{"import_path":"exec:/srv/ranker#hello","name":"default"}]}`, Keep: true}},
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // as above
			got, err := x.from.read(x.args, strings.NewReader("of a pipe"), x.local)
			if err != nil || got != x.want {
				t.Errorf("%v\n%+v, want\n%+v", err, got, x.want)
			}
		})
	}
	for want, args := range map[string][]string{
		"give a file":                   nil,
		"no such file":                  {"nosuch.yaml"},
		"a file has its arguments":      {file, "n=3"},
		"an argument of an application": {"app:app", "n"},
	} {
		if _, err := (&source{}).read(args, nil, true); err == nil || !strings.Contains(err.Error(), want) || StatusOf(err) != 2 {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestExitStatuses: each kind of refusal has its exit status, and its error the next command to try.
func TestExitStatuses(t *testing.T) { //nolint:paralleltest // the standard output is one
	refuse := func(code helvetype.Code) error {
		return &helvetype.OperationError{Code: code, Message: "refused", Next: "helve status"}
	}
	for name, x := range map[string]struct {
		o    *fakeOperator
		args string
		want int
		says string
	}{
		"a mistake in the file": {&fakeOperator{err: &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: "two mistakes", Mistakes: []helvetype.Mistake{
			{File: "serve.yaml", Line: 4, Column: 3, Path: "applications[0].nme", Message: "there is no such field; did you mean name?", Excerpt: "  nme: x\n  ^"},
		}}}, "deploy app:app", 2, "error: serve.yaml:4:3: applications[0].nme: there is no such field; did you mean name?\n  nme: x\n  ^\n"},
		"an unknown application": {&fakeOperator{err: refuse(helvetype.CodeNotFound)}, "delete nosuch", 3, "error: refused\nnext: helve status\n"},
		"another generation":     {&fakeOperator{err: refuse(helvetype.CodeFailedPrecondition)}, "scale shop/Ranker 3", 4, "refused"},
		"another deploy":         {&fakeOperator{err: refuse(helvetype.CodeAborted)}, "deploy app:app", 4, "refused"},
		"a deploy that fails":    {&fakeOperator{fails: true}, "deploy --wait app:app", 5, "error: not deployed: shop\nnext: helve why shop\n"},
		"a mistake in one application": {
			&fakeOperator{found: map[string]helvetype.Outcome{"bad": {Change: "refused", Error: "serve.yaml:7:3: no module", Code: helvetype.CodeInvalidArgument, Next: "correct the file"}}},
			"deploy app:app", 2, "The node has taken shop. Follow it with helve status -w, or wait with --wait.\nerror: not deployed: bad\nnext: correct the file\n",
		},
		"another deploy, with --wait": {
			&fakeOperator{found: map[string]helvetype.Outcome{
				"bad":  {Change: "refused", Error: "serve.yaml:7:3: no module", Code: helvetype.CodeInvalidArgument},
				"late": {Change: "changed", Error: "another deploy of ann", Code: helvetype.CodeAborted, Next: "helve history late"},
			}},
			"deploy --wait app:app", 4, "error: not deployed: bad, late\nnext: helve history late\n",
		},
		"one that does not run": {
			&fakeOperator{fails: true, found: map[string]helvetype.Outcome{"late": {Change: "changed", Error: "another deploy of ann", Code: helvetype.CodeAborted}}},
			"deploy --wait app:app", 5, "error: not deployed: late, shop\nnext: helve why shop\n",
		},
		"options that fail":                       {&fakeOperator{state: "failed"}, "set --wait shop/Ranker max_ongoing_requests=7", 5, "error: not deployed: shop\nnext: helve why shop\n"},
		"options after which another deploy came": {&fakeOperator{state: "superseded"}, "set --wait shop/Ranker max_ongoing_requests=7", 4, "another deploy has taken its place"},
		"options that hold":                       {&fakeOperator{state: "running"}, "set --wait shop/Ranker max_ongoing_requests=7", 0, "shop   changed   revision 5   runs\n"},
		"a node that closes":                      {&fakeOperator{err: refuse(helvetype.CodeUnavailable)}, "pause shop", 6, "refused"},
		"an answer without code":                  {&fakeOperator{err: io.ErrUnexpectedEOF}, "pause shop", 1, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // as above
			address := startFake(t, x.o)
			if status, text := output(t, append(strings.Fields(x.args), "--address", address)...); status != x.want || !strings.Contains(text, x.says) {
				t.Errorf("status %d, want %d: %s; want %q", status, x.want, text, x.says)
			}
		})
	}
	if status, text := output(t, "pause", "shop", "--address", filepath.Join(t.TempDir(), "none")); status != 6 || !strings.Contains(text, "no node answers at ") {
		t.Errorf("status %d: %s", status, text)
	}
	seen := map[int]bool{}
	for _, e := range ExitStatuses() {
		if seen[e.Status] || e.Meaning == "" {
			t.Errorf("the status %d is there twice, or has no meaning", e.Status)
		}
		seen[e.Status] = true
	}
}

// TestForms: JSON and YAML have the types of package helvetype, and YAML is read back as the same.
func TestForms(t *testing.T) { //nolint:paralleltest // the standard output is one
	address := startFake(t, &fakeOperator{})
	for args, value := range map[string]any{
		"plan app:app": &helvetype.Plan{}, "deploy app:app": &helvetype.ApplyAnswer{}, "history shop": &helvetype.History{}, "why shop": &helvetype.Explanation{}, "rollback shop": &helvetype.Outcome{},
		"config --effective shop": &helvetype.EffectiveConfig{}, "logs": &helvetype.LogLine{}, "status": &map[string]any{}, "calls": &helvetype.CallList{},
	} {
		for _, form := range []string{"json", "yaml"} {
			t.Run(args+" as "+form, func(t *testing.T) { //nolint:paralleltest // as above
				status, text := output(t, append(strings.Fields(args), "--address", address, "-o", form)...)
				var err error
				if form == "yaml" {
					err = shown.FromYAML([]byte(strings.TrimPrefix(text, "---\n")), value)
				} else {
					err = json.Unmarshal([]byte(text), value)
				}
				if status != 0 || err != nil || (form == "yaml") == strings.HasPrefix(text, "{") {
					t.Errorf("status %d, %v: %s", status, err, text)
				}
			})
		}
	}
}

// TestReference: the status has the reference's shape, and the commands that start programs are Helve's own.
func TestReference(t *testing.T) { //nolint:paralleltest // the standard output is one
	t.Setenv("RAY_DASHBOARD_ADDRESS", startFake(t, &fakeOperator{}))
	for args, want := range map[string]string{
		"serve status": `proxies:
  local: HEALTHY
applications:
  shop:
    status: RUNNING
    message: ""
    last_deployed_time_s: 1000
    deployments:
      Ranker:
        status: HEALTHY
        status_trigger: CONFIG_UPDATE_COMPLETED
        replica_states:
          RUNNING: 1
        message: ""
target_capacity: null
`,
		"serve status -n shop":                                 "status: RUNNING\n",
		"serve controller-health --json":                       `"num_replicas": 1`,
		"serve deploy app:app --working-dir x --name shop":     "Sent deploy request",
		"serve deploy app:app --runtime-env-json {\"pip\":[]}": "Sent deploy request",
	} {
		if status, text := output(t, strings.Fields(args)...); status != 0 || !strings.Contains(text, want) {
			t.Errorf("%s: status %d: %s; want %s", args, status, text, want)
		}
	}
	if status, text := output(t, "serve", "status", "-n", "nosuch"); status != 3 {
		t.Errorf("status %d: %s", status, text)
	}
}

// TestCompletion: a shell gets the names of applications, deployments and replicas of the node.
func TestCompletion(t *testing.T) { //nolint:paralleltest // the standard output is one
	t.Setenv(worker.RuntimeDirEnv, t.TempDir())
	address := startFake(t, &fakeOperator{})
	r := newReader(Settings{Program: "helve"})
	r.address = address
	for name, x := range map[string]struct {
		of   parts
		want []string
	}{
		"applications": {anApp, []string{"shop"}},
		"deployments":  {aDeployment, []string{"shop/Ranker"}},
		"both":         {upDeployment, []string{"shop", "shop/Ranker"}},
		"all":          {upReplica, []string{"shop", "shop/Ranker", "shop/Ranker/Ranker#001"}},
	} {
		if got := r.names(t.Context(), x.of); !slices.Equal(got, x.want) {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
	r.address = filepath.Join(t.TempDir(), "none")
	if got := r.names(t.Context(), anApp); len(got) > 0 {
		t.Errorf("without a node: %q", got)
	}
}

// TestProgress: a drawing has each replica that waits with the step that it waits for, and is bounded.
func TestProgress(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	in := details.Instance{Applications: map[string]details.AppDetails{
		"shop": {Status: helvetype.ApplicationDeploying, Revision: 4, Rollout: &helvetype.Rollout{
			From: 3, To: 4, State: "waiting", Step: 1, Steps: 2, StartedAt: now.Add(-time.Hour), Since: now.Add(-time.Minute), New: helvetype.CallWindow{Calls: 10, Failures: 1}, Message: "the next step begins in 5 s",
		}, Deployments: map[string]details.DeploymentDetails{"Ranker": {
			Name: "Ranker", Status: helvetype.DeploymentUpdating, TargetNumReplicas: 2, Replicas: []details.ReplicaDetails{
				{ReplicaID: "Ranker#001", State: helvetype.ReplicaRunning, NotReady: &helvetype.Condition{Since: now, Reason: "cold"}},
				{ReplicaID: "Ranker#002", State: helvetype.ReplicaStarting, Waits: &helvetype.Wait{For: "its constructor", Since: now.Add(-12 * time.Second)}},
			},
		}}},
		"well": {Status: helvetype.ApplicationRunning},
	}}
	want := "shop DEPLOYING, revision 4\n" +
		"  rollout: revision 3 to 4, waiting since 1m0s, step 1 of 2; failures: new 1 of\n    10 calls, old 0 of 0; the next step begins in 5 s\n  Ranker UPDATING, 1 replicas run, 2 wanted\n    Ranker#002 STARTING: waits for its constructor, since 12s\n"
	if got := progressText(in, now, 80); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for i := range 50 {
		in.Applications[fmt.Sprint("app", i)] = details.AppDetails{Status: helvetype.ApplicationDeploying}
	}
	if got := progressText(in, now, 80); strings.Count(got, "\n") != 20 || !strings.Contains(got, "more lines") {
		t.Error(got)
	}
}

// TestProgressOfAWait: in the log of a script a rollout that waits has one line with the command that goes on with it, also while its message changes.
func TestProgressOfAWait(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := &progress{out: &out}
	wait := func(r helvetype.Rollout) (first string) {
		in := details.Instance{Applications: map[string]details.AppDetails{"shop": {Rollout: &r}, "well": {}}}
		lines, first := waitTexts(in, "helve")
		p.say(lines)
		return first
	}
	if first := wait(helvetype.Rollout{To: 4, State: "going", Steps: 2}); first != "" || out.String() != "" {
		t.Errorf("a rollout under way: %q, %q", first, out.String())
	}
	for _, message := range []string{"the next step begins in 5 s", "the next step begins in 4 s"} {
		if first := wait(helvetype.Rollout{To: 4, State: "waiting", Step: 1, Steps: 2, Message: message}); first != "shop" {
			t.Errorf("a rollout at a step: %q", first)
		}
	}
	wait(helvetype.Rollout{To: 4, State: "paused"})
	want := "shop: the rollout of revision 4 waits at step 1 of 2; helve resume shop ends the wait\n" +
		"shop: the rollout of revision 4 is paused; helve resume shop goes on with it\n"
	if out.String() != want {
		t.Errorf("%s, want %s", out.String(), want)
	}
}

// TestUnchangedInAWait: the same file again says that the rollout of its application waits, and for which command.
func TestUnchangedInAWait(t *testing.T) { //nolint:paralleltest // the standard output is one
	wait := &helvetype.Rollout{From: 3, To: 4, State: "waiting", Step: 1, Steps: 2}
	for name, x := range map[string]struct {
		rollout *helvetype.Rollout
		change  string
		says    bool
	}{
		"in a wait":    {wait, "unchanged", true},
		"another file": {wait, "changed", false},
		"no rollout":   {nil, "unchanged", false},
	} {
		o := &fakeOperator{rollout: x.rollout, found: map[string]helvetype.Outcome{"shop": {Change: x.change, Revision: 4}}}
		status, text := output(t, "deploy", "app:app", "--address", startFake(t, o))
		if status != 0 || strings.Contains(strings.Join(strings.Fields(text), " "), "shop: the rollout of revision 4 waits at step 1 of 2; helve resume shop ends the wait") != x.says {
			t.Errorf("%s: status %d: %s", name, status, text)
		}
	}
}

// TestProfileMistakes: a command line that names no replica, or two kinds, is refused with the way to a right one.
func TestProfileMistakes(t *testing.T) { //nolint:paralleltest // the standard output is one
	address := startFake(t, &fakeOperator{})
	for args, want := range map[string]struct {
		status int
		text   string
	}{
		"profile":                         {exitUsage, "profile takes one argument"},
		"tracing 0.5":                     {exitUsage, "tracing takes no arguments: it is of the whole node; --ratio 0.5 sets"},
		"tracing --ratio 2":               {exitUsage, "--ratio 2: must be from 0 to 1"},
		"tracing --ratio NaN":             {exitUsage, "--ratio NaN: must be from 0 to 1"},
		"tracing --slow -1s":              {exitUsage, "--slow -1s: must be at least 0"},
		"tracing --reset --ratio 0.1":     {exitUsage, "--reset: must be alone"},
		"profile Ranker#002":              {exitNotFound, `no replica "Ranker#002" runs; there is shop/Ranker/Ranker#001`},
		"profile Ranker#001 --cpu --heap": {exitUsage, "give one of them"},
		"profile Ranker#001 --seconds 0":  {exitUsage, "must be from 1 to 300"},
	} {
		status, text := output(t, append(strings.Fields(args), "--address", address)...)
		if status != want.status || !strings.Contains(text, want.text) {
			t.Errorf("%s: status %d: %s", args, status, text)
		}
	}
}
