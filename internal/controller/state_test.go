package controller

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

func someSnapshot() snapshot.Snapshot {
	return snapshot.Snapshot{
		Version: snapshot.Version, LastID: 9,
		Applications: []snapshot.Application{{
			Name: "a", Revision: 2, Identity: "x", Graph: graphOf(spec.Deployment{Name: "D", Language: "go"}),
			Configs: map[string]json.RawMessage{"D": json.RawMessage(`{"k":1}`)},
		}},
		Workers: []host.WorkerRecord{{
			ID: "a-1", App: "a", Key: "k", Token: strings.Repeat("ab", 32),
			Process:  worker.Identity{PID: 77, Started: 5, Pipes: [3]string{"/p/out", "/p/err", "/p/told"}},
			Replicas: []host.ReplicaRecord{{ID: "D#001", Deployment: "D"}},
		}},
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if s, err := snapshot.Read(dir); err != nil || s.Version != 0 {
		t.Errorf("none is there: %+v, %v", s, err)
	}
	for _, next := range []uint64{9, 10} { // the second replaces the first
		want := someSnapshot()
		want.LastID = next
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := snapshot.Write(dir, b); err != nil {
			t.Fatal(err)
		}
		got, err := snapshot.Read(dir)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, snapshot.Name)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}

// TestSnapshotIsRefused: names that would become paths and numbers that would become process ids are checked.
func TestSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*snapshot.Snapshot){
		"version": func(s *snapshot.Snapshot) { s.Version++ },
		"token":   func(s *snapshot.Snapshot) { s.Workers[0].Token = "ab" },
		"hex":     func(s *snapshot.Snapshot) { s.Workers[0].Token = strings.Repeat("zz", 32) },
		"pid":     func(s *snapshot.Snapshot) { s.Workers[0].Process.PID = -1 },
		"init":    func(s *snapshot.Snapshot) { s.Workers[0].Process.PID = 1 },
		"id":      func(s *snapshot.Snapshot) { s.Workers[0].ID = "" },
	} {
		s := someSnapshot()
		spoil(&s)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snapshot.Parse(b); err == nil || !strings.Contains(err.Error(), snapshot.Name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzSnapshot: a file is refused, or its content stays the same when it is written again.
func FuzzSnapshot(f *testing.F) {
	b, _ := json.Marshal(someSnapshot())
	f.Add(b)
	f.Add([]byte(`{"version":1,"workers":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := snapshot.Parse(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := snapshot.Parse(again); err != nil || !cmp.Equal(s.Workers, back.Workers) || s.LastID != back.LastID {
			t.Errorf("%v\n%s", err, cmp.Diff(s, back))
		}
	})
}

// TestIdentity: the arguments of a worker count, and the number of replicas does not.
func TestIdentity(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("one"), 0o700); err != nil {
		t.Fatal(err)
	}
	graph := func(o spec.Options) spec.Graph {
		o.Isolation = spec.Process
		return graphOf(spec.Deployment{Name: "D", Language: "go", Options: o})
	}
	own := host.Program{Path: path, Args: []string{"run"}}
	base := deploy.App{Graph: graph(spec.Options{})}
	same := base.Identity(own)
	more := deploy.App{Graph: graph(spec.Options{NumReplicas: 7})}
	if more.Identity(own) != same {
		t.Error("the number of replicas counts")
	}
	for name, id := range map[string]string{
		"environment": (&deploy.App{Graph: graph(spec.Options{Env: map[string]string{"A": "b"}})}).Identity(own),
		"arguments":   base.Identity(host.Program{Path: path}),
		"code":        (&deploy.App{Graph: base.Graph, Python: host.Python{Blob: []byte("x")}}).Identity(own),
		"program":     (&deploy.App{Graph: base.Graph, Program: &host.Program{Path: path + "2"}}).Identity(own),
	} {
		if id == same {
			t.Errorf("%s: does not count", name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("two!"), 0o700); err != nil {
		t.Fatal(err)
	}
	if base.Identity(own) == same {
		t.Error("another executable at the same path is the same")
	}
}
