package protocol_test

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/protocol"
)

// row is a control request in the table of docs/control.md.
type row struct{ op, sender, fields, reply string }

func page(t *testing.T) (rows []row, section string) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/control.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ = strings.Cut(string(doc), "\n## Control\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if op, ok := strings.CutPrefix(cells[0], "| `"); ok {
			if len(cells) == 3 { // an empty cell of fields: "| node | | reply"
				sender, rest, _ := strings.Cut(strings.TrimSpace(line)[len(cells[0])+3:], " | | ")
				cells = []string{cells[0], sender, "", rest}
			}
			if len(cells) != 4 {
				t.Fatalf("a row with %d cells: %s", len(cells), line)
			}
			rows = append(rows, row{strings.TrimSuffix(op, "`"), cells[1], cells[2], cells[3]})
		}
	}
	return rows, section
}

// TestPageHasRequests: the table of docs/control.md has every request, in the order of [protocol.Requests], with its fields and
// the fields of its reply, and no other row.
func TestPageHasRequests(t *testing.T) {
	t.Parallel()
	rows, _ := page(t)
	requests := protocol.Requests()
	if len(rows) != len(requests) {
		t.Fatalf("docs/control.md has %d control requests, the package %d", len(rows), len(requests))
	}
	quoted := regexp.MustCompile("`([a-z_]+)`")
	for i, r := range requests {
		row := rows[i]
		if row.op != r.Op() {
			t.Errorf("row %d is %s, want %s", i, row.op, r.Op())
			continue
		}
		var named []string
		for _, m := range quoted.FindAllStringSubmatch(row.fields, -1) {
			named = append(named, m[1])
		}
		have := fields(reflect.TypeOf(r))
		slices.Sort(named)
		slices.Sort(have)
		if !slices.Equal(named, have) {
			t.Errorf("%s: the page has the fields %v, the type %v", row.op, named, have)
		}
		reply, _ := reflect.TypeOf(r).MethodByName("Reply")
		for _, field := range fields(reply.Type.Out(0)) {
			if reply.Type.Out(0) != reflect.TypeFor[helvetype.Status]() && !strings.Contains(row.reply, `"`+field+`"`) {
				t.Errorf("%s: the page has no field %q of its reply", row.op, field)
			}
		}
	}
}

// TestPageExamples: docs/control.md shows a request of each type as it travels, and its reply.
func TestPageExamples(t *testing.T) {
	t.Parallel()
	_, section := page(t)
	port, replicas := 8000, 3
	shown := map[string]bool{}
	for _, x := range []struct {
		request protocol.Operation
		reply   any
	}{
		{protocol.StartReplica{
			Replica: "D#1", App: "hello", Deployment: "D", UserConfig: json.RawMessage(`{"size":3}`), TimeoutS: 60, UnresponsiveAfterS: 5,
		}, protocol.Started{Methods: []protocol.Method{{Name: "SayHi", Shape: "unary", HTTP: "str"}}, Health: true, Ready: true}},
		{protocol.Drain{Replica: "D#1"}, protocol.Done{}},
		{protocol.CheckHealth{Replica: "D#1", TimeoutS: 30}, protocol.Done{}},
		{protocol.CheckReady{Replica: "D#1", TimeoutS: 5}, protocol.Done{}},
		{protocol.Reconfigure{Replica: "D#1", UserConfig: json.RawMessage(`{"size":4}`), TimeoutS: 60}, protocol.Done{}},
		{protocol.Ping{}, protocol.Done{}},
		{protocol.StopReplica{Replica: "D#1", TimeoutS: 10}, protocol.Done{}},
		{protocol.SetRank{Replica: "D#1", Rank: 1, WorldSize: 3}, protocol.Done{}},
		{protocol.RoutingStats{Replica: "D#1", TimeoutS: 30}, protocol.Stats{Stats: json.RawMessage(`{"free":3}`)}},
		{protocol.Profile{Replica: "D#1", Kind: "stacks", Seconds: 10}, protocol.Profiled{Stacks: json.RawMessage(`{"kind":"stacks","start":1.5,"seconds":0,"samples":1,"cost_s":0,"functions":[["m.D.f","m.py",3]],"stacks":[{"value":1,"count":1,"thread":"MainThread","frames":[0,4]}]}`)}},
		{protocol.Prepare{Deployment: "D", Code: &protocol.Code{Import: "m:D"}}, protocol.Done{}},
		{protocol.AutoscalingStats{Replica: "D#1", TimeoutS: 10}, protocol.Numbers{Numbers: map[string]float64{"tokens": 12}}},
		{protocol.LoadedModels{Replica: "D#1"}, protocol.Loaded{Models: []protocol.LoadedModel{{Model: "m:1", Loader: "main.Weights/0", UnusedS: 2.5}}}},
		{protocol.LoadModel{Replica: "D#2", Model: "m:1", Loader: "main.Weights/0", UnusedS: 2.5, TimeoutS: 10}, protocol.ModelLoaded{}},
		{protocol.EndProfile{Replica: "D#1"}, protocol.Done{}},
		{protocol.Release{Lease: 7}, protocol.Done{}},
		{protocol.GrantBlock{Replica: "D#1", Number: 1, Slots: 2}, protocol.Done{}},
		{protocol.RecallBlock{Replica: "D#1", Number: 2}, protocol.Recalled{Slots: 1}},
		{protocol.ReturnBlock{Replica: "D#1", Slots: 1}, protocol.Done{}},
		{protocol.Faults{Replica: "D#1", Calls: 2, Error: "the deadline has passed"}, protocol.Done{}},
		{protocol.Handover{Slots: map[string]int{"D#1": 2}}, protocol.Done{}},
		{protocol.FreeBlock{Replica: "D#1", Slots: 1}, protocol.Done{}},
		{protocol.Uses{Deployment: "D", Name: "Other"}, protocol.Done{}},
		{protocol.Models{Replica: "D#1", Models: []string{"m:1", "m:2"}}, protocol.Done{}},
		{protocol.Spans{Spans: json.RawMessage(`[{"request":"order-7","id":"00000000000000a1","parent":"00000000000000a0","app":"shop","deployment":"Ranker","replica":"Ranker#001","kind":"span","begin":1777889702000000000,"end":1777889702005000000,"name":"tokenize","attributes":{"tokens":31}}]`)}, protocol.Done{}},
		{protocol.Metrics{Number: 3, Metrics: json.RawMessage(`[{"name":"hits","kind":"counter","help":"","keys":["replica"],"bounds":[],"series":[{"values":["D#1"],"value":5}]}]`)}, protocol.Done{}},
		{protocol.Deploy{App: protocol.PythonApp{
			Name: "hello", Ingress: "D", Python: "/usr/bin/python3", SysPath: []string{"/srv"}, Dir: "/srv", Env: map[string]string{"A": "1"}, RuntimeEnv: json.RawMessage(`{"env_vars":{"B":"2"}}`), Blob: []byte("\x80\x05"),
			Deployments: []protocol.PythonDeployment{{Name: "D", Class: "hello:D", Options: json.RawMessage(`{"num_replicas":2}`), Uses: []string{}, CodeVersion: "5f1a"}}, Author: "ann@host pid 7", Program: "/srv/hello.py",
		}}, protocol.Address{URL: "http://127.0.0.1:8000"}},
		{protocol.DeployBuild{Path: "/srv/ranker", App: "rank", Args: []string{"--top", "3"}, Env: []string{"A=1"}, Dir: "/srv"}, protocol.Address{URL: "http://127.0.0.1:8000"}},
		{protocol.Delete{Name: "hello"}, protocol.Done{}},
		{protocol.Scale{App: "hello", Deployment: "D", Replicas: &replicas, Reason: "a sale begins"}, protocol.Done{}},
		{protocol.Rollback{App: "hello", Revision: 2}, protocol.Done{}},
		{protocol.Configure{App: "hello", Deployment: "D", UserConfig: json.RawMessage(`{"size":4}`)}, protocol.Done{}},
		{protocol.Status{}, helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{}}},
		{protocol.Ingress{App: "hello"}, protocol.IngressMethod{Deployment: "D", Language: "python"}},
		{protocol.HTTP{Host: "127.0.0.1", Port: &port}, protocol.Address{URL: "http://127.0.0.1:8000"}},
	} {
		request, err := protocol.Encode(x.request)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := json.Marshal(x.reply)
		if err != nil {
			t.Fatal(err)
		}
		lines := string(request) + "\n" + string(reply) + "\n"
		if !strings.Contains(section, "\n"+lines) {
			t.Errorf("docs/control.md does not show, under Control:\n%s", lines)
		}
		shown[x.request.Op()] = true
	}
	for _, r := range protocol.Requests() {
		if !shown[r.Op()] {
			t.Errorf("no example of %s", r.Op())
		}
	}
}

// fields are the names of a struct's fields in JSON.
func fields(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
