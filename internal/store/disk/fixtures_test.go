package disk

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

var makeFixtures = flag.Bool("update", false, "write the files of a format that has none in testdata")

// fixtures are records of all kinds that a store keeps. Together they have every field.
func fixtures(t testing.TB) (ops []store.Op, records []any) {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	code, graphBlob := store.Digest([]byte("#!/bin/sh\n")), store.Digest([]byte("graph"))
	graph := spec.Graph{App: "hello", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "go"}}}
	program := store.Program{
		Path: "/srv/hello", Digest: code, Args: []string{"run"}, Dir: "/srv", Env: map[string]string{"A": "1"}, SysPath: []string{"/srv"}, Last: []string{"/opt"},
		Pickle: code, Packed: []store.Packed{{Path: "/srv", Digest: code, Content: code}},
	}
	capacity := 50.0
	app := store.App{
		Revision: 2, Before: 1, Paused: true, Step: 1, Since: at, Restarting: []string{"D#1"},
		Watch:    &store.Watch{From: 1, Until: at, Old: map[string]helvetype.CallWindow{"D": {Calls: 9, Failures: 1}}},
		Outcomes: map[uint64]store.Outcome{1: {State: store.Failed, Reason: "no port", Deployment: "D", At: at}}, Overrides: map[string]json.RawMessage{"D": json.RawMessage(`{"num_replicas":2}`)},
		Attempt: &store.Attempt{
			Scales: map[string]*store.Scale{"D": {Replicas: 1, By: "ann", Reason: "more", At: at}}, Kept: map[string]*store.Scale{"E": {Replicas: 4, By: "deploy", At: at}}, Overrides: map[string]json.RawMessage{"D": json.RawMessage(`{"user_config":1}`)},
		},
	}
	one := store.Revision{GraphDigest: graphBlob, At: at}
	two := store.Revision{
		Graph: graph, Code: []string{code}, Identity: "i", Submitted: json.RawMessage(`{"a":1}`), By: "ann", From: "host:/srv", At: at, Go: &program, Python: &program,
		Own: true, Parts: map[string]store.Part{"exec:/srv/hello#hello": {Graph: graph, Program: program}}, Arguments: map[string]string{"D": code},
		Versions: map[string]string{"D": "1"}, Archives: map[string][]string{"D": {code}}, RollbackOf: 1, Before: 1,
		Source: "default", Message: "more replicas", Sources: map[string]map[string]spec.Source{"D": {"num_replicas": spec.FromFile}},
		Overrides: map[string]json.RawMessage{"D": json.RawMessage(`{"version":"2"}`)}, Below: map[string]json.RawMessage{"D": json.RawMessage(`{"version":"1"}`)}, Keep: 20, ExternalScaler: true,
	}
	scale := store.Scale{Replicas: 2, By: store.ByAutoscaler, Reason: "4 calls / 2 a replica = 2", At: at, State: json.RawMessage(`{"state":{}}`)}
	settings := store.Settings{
		HTTP: store.HTTPSettings{Host: "127.0.0.1", Port: 8000, RootPath: "/a"}, Logging: store.LoggingSettings{Level: "INFO", Encoding: "JSON"},
		Tracing: store.TracingSettings{Endpoint: "http://127.0.0.1:4317", Ratio: 0.1}, TargetCapacity: &capacity,
		Submitted: json.RawMessage(`{"target_capacity":50}`), By: "ann",
	}
	return []store.Op{
		encoded(t, store.AppKey("hello"), app), encoded(t, store.RevisionKey("hello", 1), one), encoded(t, store.RevisionKey("hello", 2), two),
		encoded(t, store.ScaleKey("hello", "D"), scale), encoded(t, store.SettingsKey(), settings),
	}, []any{app, one, two, scale, settings}
}

func encoded[R store.Record](t testing.TB, key store.Key[R], record R) store.Op {
	t.Helper()
	op, err := store.Encode(key, record)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// fieldsOf notes the fields of the types of package store in a value: true for the ones that are set.
func fieldsOf(v reflect.Value, fields map[string]bool) {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		fieldsOf(v.Elem(), fields)
	case v.Kind() == reflect.Map:
		for _, key := range v.MapKeys() {
			fieldsOf(v.MapIndex(key), fields)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			fieldsOf(v.Index(i), fields)
		}
	case v.Kind() == reflect.Struct && strings.HasSuffix(v.Type().PkgPath(), "/internal/store"):
		for i := range v.NumField() {
			name := v.Type().Name() + "." + v.Type().Field(i).Name
			fields[name] = fields[name] || !v.Field(i).IsZero()
			fieldsOf(v.Field(i), fields)
		}
	}
}

// TestFixtures: the files of every format that a program has written are in testdata, and are read: written-1, written-2 and so on. They are never changed.
// A new field of a record, or another change of the records or of the file, needs a new format (in store/records.go, or here), and then new files: -update
// writes them.
func TestFixtures(t *testing.T) {
	t.Parallel()
	ops, records := fixtures(t)
	fields := map[string]bool{}
	for _, r := range records {
		fieldsOf(reflect.ValueOf(r), fields)
	}
	for name, set := range fields {
		if !set {
			t.Errorf("no record of the fixtures has the field %s", name)
		}
	}
	there, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var newest []store.KV
	count := 0
	for _, e := range there {
		if !strings.HasPrefix(e.Name(), "written-") {
			continue
		}
		count++
		from := filepath.Join("testdata", fmt.Sprint("written-", count))
		want := readFixtures(t, from)
		newest = want
		t.Run(filepath.Base(from), func(t *testing.T) {
			t.Parallel()
			imported := t.TempDir()
			if _, err := Import(t.Context(), imported, filepath.Join(from, "export.tar")); err != nil {
				t.Fatal(err)
			}
			wantFull(t, imported, want)
			file, err := os.ReadFile(filepath.Join(from, storeName))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := openBytes(t, file); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v: %v", got, want, err)
			}
		})
	}
	same := slices.EqualFunc(newest, ops, func(r store.KV, op store.Op) bool { return r.Key == op.Key && bytes.Equal(r.Value, op.Value) })
	if !same && *makeFixtures {
		writeFixtures(t, filepath.Join("testdata", fmt.Sprint("written-", count+1)))
	} else if !same {
		t.Errorf("the records are not as those of written-%d: give them a new format, and write their files with -update", count)
	}
}

// readFixtures are the records of a directory of testdata.
func readFixtures(t *testing.T, dir string) (records []store.KV) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "records.json"))
	if err == nil {
		err = json.Unmarshal(text, &records)
	}
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func writeFixtures(t *testing.T, to string) {
	t.Helper()
	s := full(t)
	text, err := json.MarshalIndent(kept(t, s), "", " ")
	if err == nil {
		err = os.Mkdir(to, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Export(t.Context(), s.dir, filepath.Join(to, "export.tar"))
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(s.path())
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(to, storeName), file, 0o600), os.WriteFile(filepath.Join(to, "records.json"), text, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}
