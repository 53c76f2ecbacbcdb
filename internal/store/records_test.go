package store_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

var (
	graph = spec.Graph{App: "hello", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "go"}}}
	at    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// written is the record that Encode makes of a value, or its error.
func written[R store.Record](key store.Key[R], record R) (store.KV, error) {
	op, err := store.Encode(key, record)
	return store.KV{Key: op.Key, Value: op.Value}, err
}

// TestRecords: every type of record is the same after it was written and read.
func TestRecords(t *testing.T) {
	t.Parallel()
	capacity := 50.0
	sameAgain(t, store.AppKey("hello"), store.App{Revision: 3, Paused: true, Overrides: map[string]json.RawMessage{"D": json.RawMessage(`{"num_replicas":2}`)}})
	sameAgain(t, store.RevisionKey("hello", 3), store.Revision{
		Graph: graph, Code: []string{"ab"}, Submitted: json.RawMessage(`{"a":1}`), By: "ann", From: "host:/srv", At: at,
		Go:     &store.Program{Path: "/srv/hello", Args: []string{"run"}, Env: map[string]string{"A": "1"}},
		Python: &store.Program{Path: "/usr/bin/python3", SysPath: []string{"/srv"}},
	})
	sameAgain(t, store.RevisionKey("hello", 4), store.Revision{GraphDigest: "ab", At: at})
	sameAgain(t, store.ScaleKey("hello", "D"), store.Scale{Replicas: 2, By: "deploy", Reason: "num_replicas", At: at})
	sameAgain(t, store.SettingsKey(), store.Settings{
		HTTP: store.HTTPSettings{Host: "127.0.0.1", Port: 8000, RootPath: "/a"}, Logging: store.LoggingSettings{Level: "INFO", Encoding: "JSON"},
		Tracing: store.TracingSettings{Endpoint: "http://127.0.0.1:4317", Ratio: 0.1}, TargetCapacity: &capacity,
	})
	sameAgain(t, store.NodeKey("n1"), store.Node{Incarnation: "7", Address: "10.0.0.1:8001", State: store.NodeReady, CPUs: 2, Memory: 1 << 30, Labels: map[string]string{"zone": "a"}})
	sameAgain(t, store.AssignKey("n1", "D#1"), store.Assign{App: "hello", Deployment: "D", Revision: 3, Version: "v"})
	sameAgain(t, store.ReplicaKey("n1", "D#1"), store.Replica{
		App: "hello", Deployment: "D", Revision: 3, Version: "v", State: helvetype.ReplicaRunning, Reason: "ready", Since: at,
	})
}

func sameAgain[R store.Record](t *testing.T, key store.Key[R], record R) {
	t.Helper()
	kv, err := written(key, record)
	if err != nil {
		t.Fatal(err)
	}
	again, err := store.Decode[R](kv)
	if err != nil || !reflect.DeepEqual(again, record) {
		t.Errorf("%v\n got %+v\nwant %+v", err, again, record)
	}
	if _, err := store.ParseKey(key.String()); err != nil {
		t.Error(err)
	}
}

// TestRecordErrors: an error names the key and the field.
func TestRecordErrors(t *testing.T) {
	t.Parallel()
	scale := func(body string) error {
		_, err := store.Decode[store.Scale](store.KV{Key: "scale/a/D", Value: []byte(body)})
		return err
	}
	encoded := func(_ store.KV, err error) error { return err }
	for name, x := range map[string]struct {
		err  error
		want string
	}{
		"no JSON":           {scale(`{`), `record scale/a/D: unexpected EOF`},
		"empty":             {scale(``), `record scale/a/D: EOF`},
		"another format":    {scale(`{"format":4,"record":{"shards":1}}`), `record scale/a/D: field "format": is 4, this program reads 1 to 3`},
		"no format":         {scale(`{"record":{"replicas":1}}`), `record scale/a/D: field "format": is 0, this program reads 1 to 3`},
		"no record":         {scale(`{"format":1}`), `record scale/a/D: field "record": is missing`},
		"a null record":     {scale(`{"format":1,"record":null}`), `record scale/a/D: field "record": is missing`},
		"an unknown field":  {scale(`{"format":1,"record":{"replicas":1,"shards":2}}`), `record scale/a/D: json: unknown field "shards"`},
		"another type":      {scale(`{"format":1,"record":{"replicas":"2"}}`), `record scale/a/D: field "replicas": a JSON string cannot be a value of type int`},
		"a wrong value":     {scale(`{"format":1,"record":{"replicas":-1}}`), `record scale/a/D: field "replicas": is negative`},
		"text after it":     {scale(`{"format":1,"record":{"replicas":1}} x`), `record scale/a/D: there is text after the record`},
		"app":               {encoded(written(store.AppKey("a"), store.App{})), `record apps/a: field "revision": is missing`},
		"revision":          {encoded(written(store.RevisionKey("a", 1), store.Revision{Graph: graph, Go: &store.Program{}})), `record revisions/a/0000000001: field "path": is missing`},
		"both graphs":       {encoded(written(store.RevisionKey("a", 1), store.Revision{Graph: graph, GraphDigest: "ab"})), `record revisions/a/0000000001: field "graph_digest": is there beside a graph`},
		"no graph":          {encoded(written(store.RevisionKey("a", 1), store.Revision{})), `record revisions/a/0000000001: field "graph": application name is empty` + "\n" + `no ingress: call App.Ingress with a method`},
		"settings: port":    {encoded(written(store.SettingsKey(), store.Settings{HTTP: store.HTTPSettings{Port: 70000}})), `record settings: field "http.port": is not a port`},
		"settings: tracing": {encoded(written(store.SettingsKey(), store.Settings{Tracing: store.TracingSettings{Ratio: 2}})), `record settings: field "tracing.ratio": is not within 0 and 1`},
		"node":              {encoded(written(store.NodeKey("n"), store.Node{Incarnation: "1", State: "GONE"})), `record nodes/n: field "state": "GONE" is not a state of a node`},
		"assign":            {encoded(written(store.AssignKey("n", "r"), store.Assign{App: "a", Deployment: "D"})), `record assign/n/r: field "version": is missing`},
		"replica":           {encoded(written(store.ReplicaKey("n", "r"), store.Replica{App: "a", Deployment: "D", Version: "v"})), `record replicas/n/r: field "state": "" is not a state of a replica`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if x.err == nil || x.err.Error() != x.want {
				t.Errorf("got  %v\nwant %s", x.err, x.want)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]store.ParsedKey{
		store.AppKey("a/b").String():             {Kind: "apps", App: "a/b"},
		store.RevisionKey("a", 12).String():      {Kind: "revisions", App: "a", Revision: 12},
		store.ScaleKey("a", "D é").String():      {Kind: "scale", App: "a", Deployment: "D é"},
		store.SettingsKey().String():             {Kind: "settings"},
		store.NodeKey("n").String():              {Kind: "nodes", Node: "n"},
		store.AssignKey("n", "D#1").String():     {Kind: "assign", Node: "n", Replica: "D#1"},
		store.ReplicaKey("n", "..").String():     {Kind: "replicas", Node: "n", Replica: ".."},
		store.RevisionKey("a", 1<<63).String():   {Kind: "revisions", App: "a", Revision: 1 << 63},
		store.ScaleKey("a", "%2F").String():      {Kind: "scale", App: "a", Deployment: "%2F"},
		store.AppKey("\xff\x00").String():        {Kind: "apps", App: "\xff\x00"},
		store.ReplicaKey("n", "apps/a").String(): {Kind: "replicas", Node: "n", Replica: "apps/a"},
		store.NodeKey("settings").String():       {Kind: "nodes", Node: "settings"},
	} {
		got, err := store.ParseKey(key)
		if err != nil || got != want || store.CheckKey(key) != nil {
			t.Errorf("%s: %+v, want %+v: %v", key, got, want, err)
		}
	}
	for key, want := range map[string]string{
		"":                       `key "": there are no records of the kind ""`,
		"models/a":               `key "models/a": there are no records of the kind "models"`,
		"apps":                   `key "apps": it has 0 parts after apps, want 1`,
		"apps/":                  `key "apps/": app: "" is not the name of a record`,
		"settings/x":             `key "settings/x": it has 1 parts after settings, want 0`,
		"scale/a/%zz":            `key "scale/a/%zz": deployment: invalid URL escape "%zz"`,
		"scale/a/%41":            `key "scale/a/%41": deployment: "%41" is not the name of a record`,
		"revisions/a/7":          `key "revisions/a/7": revision: "7" is not a number of ten digits`,
		"revisions/a/000000000x": `key "revisions/a/000000000x": revision: "000000000x" is not a number of ten digits`,
	} {
		if _, err := store.ParseKey(key); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// TestTypedList: a record that cannot be read does not hide the others.
func TestTypedList(t *testing.T) {
	t.Parallel()
	s := store.NewMemory()
	var ops []store.Op
	for _, n := range []uint64{10, 9, 2} {
		op, err := store.Encode(store.RevisionKey("a", n), store.Revision{Graph: graph, At: at})
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op)
	}
	ops = append(ops, store.Put(store.RevisionKey("a", 3).String(), []byte(`{"format":9}`)), store.Put("revisions/ab/0000000001", nil))
	revision, err := s.Txn(t.Context(), store.Txn{Then: ops})
	if err != nil {
		t.Fatal(err)
	}
	records, at, err := store.List(t.Context(), s, store.Revisions("a"))
	if err == nil || !strings.Contains(err.Error(), `record revisions/a/0000000003: field "format": is 9`) || strings.Contains(err.Error(), "revisions/ab") {
		t.Error(err)
	}
	var keys []string
	for _, r := range records {
		keys = append(keys, r.Key)
	}
	if want := []string{"revisions/a/0000000002", "revisions/a/0000000009", "revisions/a/0000000010"}; !reflect.DeepEqual(keys, want) || at != revision {
		t.Errorf("%v at %d, want %v at %d", keys, at, want, revision)
	}
	none, err := store.Get(t.Context(), s, store.AppKey("a"))
	if err != nil || none.Modified != 0 {
		t.Errorf("%+v: %v", none, err)
	}
	nine, err := store.Get(t.Context(), s, store.RevisionKey("a", 9))
	if err != nil || nine.Modified != revision || nine.Record.Graph.App != "hello" {
		t.Errorf("%+v: %v", nine, err)
	}
}

// TestHistoryIsBounded: a watch that is behind by more than the history is told so, and costs the writers nothing.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	s := store.NewMemory()
	const writes = 10_001
	for range writes {
		if _, err := s.Txn(t.Context(), store.Txn{Then: []store.Op{store.Put("a", nil)}}); err != nil {
			t.Fatal(err)
		}
	}
	for from, want := range map[int64]error{1: store.ErrCompacted, 2: nil, writes: nil} {
		for u, err := range s.Watch(t.Context(), "", from) {
			if err != want || err == nil && u.Revision != from { //nolint:errorlint // the error itself
				t.Errorf("from %d: revision %d: %v", from, u.Revision, err)
			}
			break
		}
	}
}

// TestHistoryIsBoundedInBytes: large values leave the history before there are many.
func TestHistoryIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	s, large := store.NewMemory(), make([]byte, store.MaxValue)
	const writes = 40
	for range writes {
		if _, err := s.Txn(t.Context(), store.Txn{Then: []store.Op{store.Put("a", large)}}); err != nil {
			t.Fatal(err)
		}
	}
	for from, want := range map[int64]error{1: store.ErrCompacted, writes - 32: store.ErrCompacted, writes - 31: nil, writes: nil} {
		for u, err := range s.Watch(t.Context(), "", from) {
			if err != want || err == nil && u.Revision != from { //nolint:errorlint // the error itself
				t.Errorf("from %d: revision %d: %v", from, u.Revision, err)
			}
			break
		}
	}
}

// FuzzRecord: no bytes make a decoder panic, and a record that was read is the same after it was written again.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"format":1,"record":{"revision":1,"overrides":{"D":{"num_replicas":1}}}}`))
	f.Add([]byte(`{"format":1,"record":{"replicas":2,"by":"a","reason":"b","at":"2026-01-02T03:04:05Z"}}`))
	f.Add([]byte(`{"format":1,"record":{"http":{"port":1},"logging":{},"tracing":{"ratio":0.5},"target_capacity":0}}`))
	f.Add([]byte(`{"format":1,"record":{"incarnation":"1","address":"","state":"READY","labels":{}}}`))
	f.Add([]byte(`{"format":1,"record":{"app":"a","deployment":"D","revision":1,"version":"v","state":"RUNNING","since":"2026-01-02T03:04:05+01:00"}}`))
	f.Add([]byte(`{"format":1,"record":{"graph":{"app":"a","deployments":[{"name":"D","language":"go","options":{}}]},"at":"2026-01-02T03:04:05Z","go":{"path":"p"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		stable(t, store.AppKey("a"), body)
		stable(t, store.RevisionKey("a", 1), body)
		stable(t, store.ScaleKey("a", "D"), body)
		stable(t, store.SettingsKey(), body)
		stable(t, store.NodeKey("n"), body)
		stable(t, store.AssignKey("n", "r"), body)
		stable(t, store.ReplicaKey("n", "r"), body)
	})
}

func stable[R store.Record](t *testing.T, key store.Key[R], body []byte) {
	t.Helper()
	record, err := store.Decode[R](store.KV{Key: key.String(), Value: body})
	if err != nil {
		if !strings.HasPrefix(err.Error(), "record "+key.String()+": ") {
			t.Errorf("%v", err)
		}
		return
	}
	first, err := written(key, record)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	again, err := store.Decode[R](first)
	if err != nil {
		t.Fatalf("%s: %v", first.Value, err)
	}
	if second, err := written(key, again); err != nil || string(first.Value) != string(second.Value) {
		t.Errorf("%v\n%s\n%s", err, first.Value, second.Value)
	}
}

// FuzzKey: the parts of a key make the same key again.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"apps/a", "revisions/a/0000000001", "scale/a/b%2Fc", "settings", "nodes/n", "assign/n/r", "replicas/n/D%231"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		p, err := store.ParseKey(key)
		if err != nil {
			return
		}
		made := map[string]string{
			"apps": store.AppKey(p.App).String(), "revisions": store.RevisionKey(p.App, p.Revision).String(),
			"scale": store.ScaleKey(p.App, p.Deployment).String(), "settings": store.SettingsKey().String(), "nodes": store.NodeKey(p.Node).String(),
			"assign": store.AssignKey(p.Node, p.Replica).String(), "replicas": store.ReplicaKey(p.Node, p.Replica).String(),
		}[p.Kind]
		if made != key {
			t.Errorf("%q is read as %+v, which is %q", key, p, made)
		}
	})
}
