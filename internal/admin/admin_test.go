package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/telemetry"
)

// fakeNode is a node with one application.
type fakeNode struct{ events *telemetry.Events }

var deployedAt = time.UnixMilli(1700000000500)

func (fakeNode) Status() helvetype.Status {
	return helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"app": {
		Status: helvetype.ApplicationUnhealthy, Message: "deployment D: killed", RoutePrefix: "/app",
		DeployedAt: deployedAt, Deployments: map[string]helvetype.DeploymentStatus{
			"D": {
				Status: helvetype.DeploymentUnhealthy, Trigger: helvetype.TriggerHealthCheckFailed, Message: "killed", Calls: helvetype.Calls{Total: 3, Errors: 1},
				Replicas: []helvetype.ReplicaStatus{
					{ID: "D#001", State: helvetype.ReplicaRunning, PID: 77, StartedAt: deployedAt},
					{ID: "D#002", State: helvetype.ReplicaStarting, StartedAt: deployedAt, Wait: &helvetype.Wait{For: "its constructor", Since: deployedAt}, Restarts: 1, LastExit: &helvetype.Exit{Replica: "D#000", Reason: "killed"}},
				},
			},
			"Front": {Status: helvetype.DeploymentHealthy, Trigger: helvetype.TriggerConfigUpdateCompleted, Replicas: []helvetype.ReplicaStatus{}, Uses: []string{"D"}, DynamicUses: []string{"D"}},
		},
	}}}
}

func (fakeNode) Applications() map[string]deploy.DeployedApp {
	return map[string]deploy.DeployedApp{"app": {Revision: 4, Deployments: map[string]deploy.DeployedDeployment{
		"D":     {Config: json.RawMessage(`{"name":"D","max_ongoing_requests":5}`), NumReplicas: 2},
		"Front": {NumReplicas: 1, Ingress: true},
	}}}
}

func (fakeNode) Calls(at helvetype.Object, _ int) helvetype.CallList {
	l := helvetype.CallList{Calls: []helvetype.Call{
		{ID: "b", Parent: "a", Deployment: "D", Method: "M", State: helvetype.CallWaiting, Since: deployedAt.Add(1), WaitsFor: "a slot of app/D"},
		{ID: "a", Deployment: "Front", Method: "Go", State: helvetype.CallRunning, Since: deployedAt},
	}, Unlisted: 2}
	if at.App == "none" || at.Deployment == "none" {
		return helvetype.CallList{}
	}
	if at.Deployment == "Front" {
		l.Calls = l.Calls[1:]
	}
	return l
}

func (fakeNode) Metrics() telemetry.Snapshot { return telemetry.Snapshot{} }
func (fakeNode) HTTP() string                { return "http://127.0.0.1:8000" }
func (fakeNode) URLs() []string              { return []string{"unix:/run/http.sock", "http://127.0.0.1:8000"} }
func (fakeNode) Draining() bool              { return false }
func (n fakeNode) Events() *telemetry.Events { return n.events }

// serve serves a fake node on a unix socket and on a TCP address.
func serve(t *testing.T, metrics http.Handler) (node fakeNode, socket, tcp string, server *Server) {
	t.Helper()
	node = fakeNode{telemetry.NewEvents(nil)}
	server = New(Settings{Node: node, Version: "test", Metrics: metrics})
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "s")
	ul, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	tl, err := ListenTCP("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{ul, tl} {
		go func() {
			if err := server.Serve(l); err != nil {
				t.Error(err)
			}
		}()
	}
	return node, path, tl.Addr().String(), server
}

func client(t *testing.T, address string) *rest.Client {
	t.Helper()
	c, err := rest.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestApplicationsHaveTheReferencesShape: every field that clients of the reference read is there, in its place.
func TestApplicationsHaveTheReferencesShape(t *testing.T) {
	t.Parallel()
	_, socket, tcp, _ := serve(t, nil)
	for name, address := range map[string]string{"unix": socket, "tcp": tcp, "url": "http://" + tcp + "/"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got map[string]any
			if err := client(t, address).Get(t.Context(), "/api/serve/applications/", nil, &got); err != nil {
				t.Fatal(err)
			}
			here := map[string]any{
				"node_id": "local", "node_ip": "127.0.0.1", "node_instance_id": nil, "actor_id": nil, "actor_name": nil, "worker_id": nil, "log_file_path": nil,
			}
			if diff := cmp.Diff(here, got["controller_info"]); diff != "" {
				t.Error(diff)
			}
			for field, want := range map[string]any{
				"proxy_location": "EveryNode", "grpc_options": nil, "target_capacity": nil,
				"http_options": map[string]any{"host": "127.0.0.1", "port": 8000.0},
				"target_groups": []any{map[string]any{
					"targets":      []any{map[string]any{"ip": "127.0.0.1", "port": 8000.0, "instance_id": "local", "name": "local"}},
					"route_prefix": "/app", "protocol": "HTTP", "app_name": "app",
				}},
			} {
				if diff := cmp.Diff(want, got[field]); diff != "" {
					t.Errorf("%s: %s", field, diff)
				}
			}
			app := got["applications"].(map[string]any)["app"].(map[string]any)
			for field, want := range map[string]any{
				"name": "app", "route_prefix": "/app", "docs_path": nil, "status": "UNHEALTHY", "message": "deployment D: killed",
				"last_deployed_time_s": 1700000000.5, "deployed_app_config": nil, "source": "imperative", "external_scaler_enabled": false,
				"deployment_topology": map[string]any{"app_name": "app", "ingress_deployment": "Front", "nodes": map[string]any{
					"D": map[string]any{"name": "D", "app_name": "app", "is_ingress": false, "outbound_deployments": []any{}},
					"Front": map[string]any{"name": "Front", "app_name": "app", "is_ingress": true, "outbound_deployments": []any{
						map[string]any{"name": "D", "app_name": "app"},
					}},
				}},
			} {
				if diff := cmp.Diff(want, app[field]); diff != "" {
					t.Errorf("%s: %s", field, diff)
				}
			}
			d := app["deployments"].(map[string]any)["D"].(map[string]any)
			for field, want := range map[string]any{
				"name": "D", "status": "UNHEALTHY", "status_trigger": "HEALTH_CHECK_FAILED", "message": "killed", "target_num_replicas": 2.0,
				"deployment_config": map[string]any{"name": "D", "max_ongoing_requests": 5.0}, "required_resources": map[string]any{}, "autoscaling_detail": nil,
			} {
				if diff := cmp.Diff(want, d[field]); diff != "" {
					t.Errorf("%s: %s", field, diff)
				}
			}
			replica, starting := d["replicas"].([]any)[0].(map[string]any), d["replicas"].([]any)[1].(map[string]any)
			for field, want := range map[string]any{
				"replica_id": "D#001", "state": "RUNNING", "pid": 77.0, "start_time_s": 1700000000.5, "node_id": "local",
			} {
				if diff := cmp.Diff(want, replica[field]); diff != "" {
					t.Errorf("%s: %s", field, diff)
				}
			}
			for name, object := range map[string]struct {
				of     map[string]any
				fields string // that the reference's schema has
			}{
				"instance":   {got, "applications controller_info grpc_options http_options proxies proxy_location target_capacity target_groups"},
				"app":        {app, "deployed_app_config deployment_topology deployments docs_path external_scaler_enabled last_deployed_time_s message name route_prefix source status"},
				"deployment": {d, "autoscaling_detail deployment_config message name replicas required_resources status status_trigger target_num_replicas"},
				"starting":   {starting, "actor_id actor_name log_file_path node_id node_instance_id node_ip pid replica_id start_time_s state worker_id"},
				"replica":    {replica, "actor_id actor_name log_file_path node_id node_instance_id node_ip pid replica_id start_time_s state worker_id"},
			} {
				if fields := strings.Join(slices.Sorted(maps.Keys(object.of)), " "); fields != object.fields {
					t.Errorf("%s has the fields %s, and the clients of the reference refuse all but %s", name, fields, object.fields)
				}
			}
			var whole details.Instance
			if err := client(t, address).Get(t.Context(), "/api/v1/instance", nil, &whole); err != nil {
				t.Fatal(err)
			}
			own := whole.Applications["app"]
			if own.Revision != 4 || own.Deployments["D"].Calls.Total != 3 || own.Deployments["D"].Replicas[1].Waits.For != "its constructor" || whole.Version != "test" {
				t.Errorf("Helve's own fields: %+v", own)
			}
		})
	}
	var none details.Instance
	if err := client(t, socket).Get(t.Context(), "/api/serve/applications/", url.Values{"api_type": {"declarative"}}, &none); err != nil || len(none.Applications) > 0 {
		t.Errorf("declarative: %v, %v", none.Applications, err)
	}
}

// TestMistakesAreErrorsInJSON: a wrong method, path or parameter is answered with a status and a text that says what is right.
func TestMistakesAreErrorsInJSON(t *testing.T) {
	t.Parallel()
	_, _, tcp, _ := serve(t, nil)
	type want struct {
		status int
		text   string
	}
	for request, want := range map[string]want{
		"POST /api/serve/applications/":           {405, "takes DELETE, GET, PUT, HEAD, not POST"},
		"DELETE /events":                          {405, "takes GET, HEAD, not DELETE"},
		"GET /nope":                               {404, "there is no /nope here; GET / lists the paths"},
		"GET /api/serve/applications/hello":       {404, "there is no /api/serve/applications/hello here; did you mean /api/v1/applications/{app} or /api/serve/applications/? GET / lists the paths"},
		"GET /api/v1/aplication/hello":            {404, "there is no /api/v1/aplication/hello here; did you mean /api/v1/applications/{app}"},
		"GET /api/serve/applications/?api_type=x": {400, `api_type "x": must be imperative or declarative`},
		"GET /api/serve/applications/?apitype=x":  {400, `has no parameter "apitype"; it takes api_type`},
		"GET /?x=1":                               {400, `/ has no parameter "x"; it takes no parameters`},
		"GET /events?after=-1":                    {400, `after "-1": must be a number that is not negative`},
		"GET /events?limit=0":                     {400, `limit "0": must be a number from 1 to 4096`},
		"GET /events?limit=99999999999999999999":  {400, "must be a number from 1 to 4096"},
		"GET /events?follow=maybe":                {400, `follow "maybe": must be true or false`},
		"GET /calls?limit=x":                      {400, `limit "x": must be a number from 1 to 1000`},
		"GET /calls?after=1":                      {400, `/calls has no parameter "after"; it takes limit, app, deployment`},
		"GET /events?kind=call":                   {400, `kind "call": must be application, deployment, replica or node`},
		"GET /api/v1/updates?all_replicas&app=a":  {400, `all_replicas is for the replicas of the whole node, and app "a" for those of one application`},
		"GET /events?%zz":                         {400, "the query does not parse"},
		"GET /metrics":                            {404, "this program has no metrics"},
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			method, path, _ := strings.Cut(request, " ")
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+tcp+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var f Failure
			err = json.NewDecoder(resp.Body).Decode(&f)
			if resp.StatusCode != want.status || err != nil || !strings.Contains(f.Message, want.text) {
				t.Errorf("%d: %q, %v; want %d: %q", resp.StatusCode, f.Message, err, want.status, want.text)
			}
		})
	}
}

// TestWebPagesMayNotRead: over TCP a host that is not of the loopback interface, an origin of another site, and requests that a browser marks
// as another site's are refused. A unix socket has no such clients, and no such checks.
func TestWebPagesMayNotRead(t *testing.T) {
	t.Parallel()
	_, _, tcp, server := serve(t, nil)
	_, port, _ := net.SplitHostPort(tcp)
	for name, c := range map[string]struct {
		host   string
		header http.Header
		status int
	}{
		"a program":                       {host: tcp, status: 200},
		"by the name localhost":           {host: "localhost:" + port, status: 200},
		"by IPv6":                         {host: "[::1]:" + port, status: 200},
		"without a port":                  {host: "127.0.0.1", status: 200},
		"its own page":                    {host: tcp, header: http.Header{"Origin": {"http://" + tcp}, "Sec-Fetch-Site": {"same-origin"}}, status: 200},
		"an address typed in the browser": {host: tcp, header: http.Header{"Sec-Fetch-Site": {"none"}}, status: 200},
		"a name that leads here":          {host: "evil.example:" + port, status: 403},
		"an address of a network":         {host: "10.0.0.1:" + port, status: 403},
		"a page of another site":          {host: tcp, header: http.Header{"Origin": {"http://evil.example"}}, status: 403},
		"a page of another port":          {host: tcp, header: http.Header{"Origin": {"http://127.0.0.1:1"}}, status: 403},
		"a page without an origin":        {host: tcp, header: http.Header{"Origin": {"null"}}, status: 403},
		"an image in a page":              {host: tcp, header: http.Header{"Sec-Fetch-Site": {"cross-site"}}, status: 403},
		"a link in a page":                {host: tcp, header: http.Header{"Sec-Fetch-Site": {"same-site"}}, status: 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for s, want := range map[*http.Server]int{server.tcp: c.status, server.unix: 200} {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
				r.Host, r.Header = c.host, c.header
				w := httptest.NewRecorder()
				s.Handler.ServeHTTP(w, r)
				if w.Code != want {
					t.Errorf("%d, want %d: %s", w.Code, want, w.Body)
				}
			}
		})
	}
}

// TestTCPIsOfTheLoopbackInterface: other addresses are refused with a reason.
func TestTCPIsOfTheLoopbackInterface(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"0.0.0.0:0": "not on the loopback interface", ":0": "not on the loopback interface", "10.1.2.3:0": "an ssh tunnel leads there",
		"example.com:80": "not on the loopback interface", "8265": "give an address of this machine, such as 127.0.0.1:8265", "127.0.0.1:x": "unknown port",
	} {
		if l, err := ListenTCP(addr, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", addr, err, want)
			if err == nil {
				l.Close()
			}
		}
	}
}

// TestCalls: the oldest first, a caller waits for its call, and what is over the limit is counted.
func TestCalls(t *testing.T) {
	t.Parallel()
	_, socket, _, _ := serve(t, nil)
	c := client(t, socket)
	get := func(query url.Values) (l helvetype.CallList) {
		t.Helper()
		if err := c.Get(t.Context(), "/calls", query, &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := get(nil)
	if len(l.Calls) != 2 || l.Calls[0].ID != "a" || l.Calls[0].WaitsFor != "its call b to D.M" || l.Calls[1].WaitsFor != "a slot of app/D" || l.Unlisted != 2 {
		t.Errorf("%+v", l)
	}
	if l := get(url.Values{"limit": {"1"}}); len(l.Calls) != 1 || l.Calls[0].ID != "a" || l.Unlisted != 3 {
		t.Errorf("%+v", l)
	}
	if l := get(url.Values{"deployment": {"Front"}}); len(l.Calls) != 1 || l.Calls[0].WaitsFor != "its call b to D.M" {
		t.Errorf("a caller whose call is of another deployment: %+v", l)
	}
	if l := get(url.Values{"app": {"none"}}); l.Calls == nil || len(l.Calls) != 0 {
		t.Errorf("%+v", l)
	}
}

// TestEvents: filters, limits, events that have left the ring, and a reader that follows until the node ends.
func TestEvents(t *testing.T) {
	t.Parallel()
	node, socket, _, server := serve(t, nil)
	emit := func(replica string) uint64 {
		return node.events.Emit(helvetype.Event{Object: helvetype.Object{Kind: helvetype.KindReplica, App: "app", Deployment: "D", Replica: replica}, To: "RUNNING"})
	}
	for i := range 5000 {
		emit(fmt.Sprint(i % 10))
	}
	c := client(t, socket)
	for query, want := range map[string]struct {
		first, count, missed, next int
	}{
		"":                                {905, 4096, 0, 5000},
		"limit=3":                         {4998, 3, 0, 5000},
		"after=4990":                      {4991, 10, 0, 5000},
		"after=4990&limit=3":              {4991, 3, 0, 4993},
		"after=4993&limit=3":              {4994, 3, 0, 4996},
		"after=4":                         {905, 4096, 900, 5000},
		"after=4&limit=1":                 {905, 1, 900, 905},
		"after=0&limit=1":                 {905, 1, 904, 905},
		"after=6000&limit=1":              {905, 1, 904, 905},
		"replica=3&limit=2":               {4984, 2, 0, 5000},
		"after=904&replica=3&limit=2":     {914, 2, 0, 924},
		"after=4984&replica=3&limit=2":    {4994, 1, 0, 5000},
		"app=app&kind=replica&limit=1":    {5000, 1, 0, 5000},
		"kind=deployment":                 {0, 0, 0, 5000},
		"after=4000&kind=deployment":      {0, 0, 0, 5000},
		"deployment=E":                    {0, 0, 0, 5000},
		"after=5000&follow=false":         {0, 0, 0, 5000},
		"after=5000&limit=1&follow=false": {0, 0, 0, 5000},
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		var list rest.EventList
		if err := c.Get(t.Context(), "/events", q, &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Events) != want.count || int(list.Missed) != want.missed || int(list.Next) != want.next || want.count > 0 && int(list.Events[0].ID) != want.first {
			t.Errorf("%s: %d events, %d missed, next %d, want %+v", query, len(list.Events), list.Missed, list.Next, want)
		}
	}
	lines := make(chan string, 16)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Lines(t.Context(), "/events", url.Values{"follow": {""}, "replica": {"new"}}, func(b []byte) error {
			lines <- string(b)
			return nil
		})
	}()
	for range 3 {
		id := emit("new")
		emit("old")
		var e helvetype.Event
		if err := json.Unmarshal([]byte(<-lines), &e); err != nil || e.ID != id {
			t.Errorf("%+v, %v; want %d", e, err, id)
		}
	}
	server.Close()
	if err := <-ended; !errors.Is(err, rest.ErrEnded) {
		t.Error(err)
	}
}

// TestFollowingFromAnIdSkipsNothing: a reader that follows from an id gets every event above it, also if the limit cuts its first page.
func TestFollowingFromAnIdSkipsNothing(t *testing.T) {
	t.Parallel()
	node, socket, _, _ := serve(t, nil)
	for range 9 {
		node.events.Emit(helvetype.Event{Object: helvetype.Object{Kind: helvetype.KindApplication, App: "app"}})
	}
	enough := errors.New("enough")
	var ids []uint64
	err := client(t, socket).Lines(t.Context(), "/events", url.Values{"follow": {"true"}, "after": {"5"}, "limit": {"1"}}, func(line []byte) error {
		var e helvetype.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		if ids = append(ids, e.ID); e.ID == 9 {
			return enough
		}
		return nil
	})
	if want := []uint64{6, 7, 8, 9}; !errors.Is(err, enough) || !slices.Equal(ids, want) {
		t.Errorf("%v, %v; want %v", ids, err, want)
	}
}

// TestReaderThatFollowsTooSlowly is told how many events it has missed.
func TestReaderThatFollowsTooSlowly(t *testing.T) {
	t.Parallel()
	node := fakeNode{telemetry.NewEvents(nil)}
	a := New(Settings{Node: node})
	defer a.Close()
	emit := func(n int) {
		for range n {
			node.events.Emit(helvetype.Event{Object: helvetype.Object{Kind: helvetype.KindApplication, App: "app"}})
		}
	}
	emit(1)
	w := &stalled{ResponseWriter: httptest.NewRecorder(), begun: make(chan struct{}), goOn: make(chan struct{}), wrote: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.unix.Handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/events?follow&after=0", nil))
	}()
	<-w.begun // the handler writes the first event, and waits there
	emit(10000)
	close(w.goOn)
	for strings.Count(w.text(), "\n") < 2+4096 {
		<-w.wrote
	}
	cancel()
	<-done
	second := strings.Split(w.text(), "\n")[1]
	if want := `{"missed":5904}`; second != want {
		t.Errorf("%s, want %s", second, want)
	}
}

// stalled is a reader whose connection takes nothing until goOn is closed.
type stalled struct {
	http.ResponseWriter
	begun, goOn chan struct{}
	once        sync.Once

	mu    sync.Mutex
	body  []byte
	wrote chan struct{}
}

func (w *stalled) Write(b []byte) (int, error) {
	w.once.Do(func() { close(w.begun) })
	<-w.goOn
	w.mu.Lock()
	defer w.mu.Unlock()
	w.body = append(w.body, b...)
	select {
	case w.wrote <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (w *stalled) FlushError() error { return nil }

func (w *stalled) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.body)
}

// TestMetricsAreTheProgramsOwn: the handler that was given answers.
func TestMetricsAreTheProgramsOwn(t *testing.T) {
	t.Parallel()
	_, _, tcp, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics") }))
	resp, err := http.Get("http://" + tcp + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "metrics" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// TestProfiles: the profiles of the runtime are there, and http.DefaultServeMux, which an application may serve, has none.
func TestProfiles(t *testing.T) {
	t.Parallel()
	_, socket, _, _ := serve(t, nil)
	over := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer over.CloseIdleConnections()
	for path, begin := range map[string]string{
		"/debug/pprof/":                  "{\n  \"profiles\": [",
		"/debug/pprof/goroutine?debug=2": "goroutine ",
		"/debug/pprof/goroutine":         "\x1f\x8b",
		"/debug/pprof/heap?gc=1":         "\x1f\x8b",
		"/debug/pprof/profile?seconds=0": "\x1f\x8b",
		"/debug/pprof/trace?seconds=0":   "go 1.",
	} {
		resp, err := over.Get("http://localhost" + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || err != nil || !strings.HasPrefix(string(b), begin) {
			t.Errorf("%s: %d, %.40q, %v", path, resp.StatusCode, b, err)
		}
	}
	w := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil))
	if w.Code != 404 {
		t.Errorf("http.DefaultServeMux answers %d", w.Code)
	}
}

// TestMistakesInProfiles: a wrong name or parameter is an error, and a client without a token learns nothing and costs no time.
func TestMistakesInProfiles(t *testing.T) {
	t.Parallel()
	o := operate(t)
	for path, c := range map[string]struct {
		status int
		text   string
	}{
		"/debug/pprof/nope":                {404, "there is no profile"},
		"/debug/pprof/heap?debug=x":        {400, "must be a number"},
		"/debug/pprof/profile?seconds=301": {400, "must be a number from 0 to 300"},
	} {
		if w := o.ask(t, helvetype.RoleRead, "GET "+path, ""); w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if w := o.ask(t, "", "GET "+path, ""); w.Code != 401 {
			t.Errorf("%s without a token: %d %s", path, w.Code, w.Body)
		}
	}
}
