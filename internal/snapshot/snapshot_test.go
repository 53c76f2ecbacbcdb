package snapshot

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

func someSnapshot() Snapshot {
	return Snapshot{
		Version: Version, LastID: 9,
		Applications: []Application{{
			Name: "a", Revision: 2, Identity: "x", Graph: spec.Graph{App: "a", Deployments: []spec.Deployment{{Name: "D", Language: "go"}}},
			Configs: map[string]json.RawMessage{"D": json.RawMessage(`{"k":1}`)},
		}},
		Workers: []roster.Worker{{
			ID: "a-1", App: "a", Key: "k", Token: strings.Repeat("ab", 32),
			Process:  worker.Identity{PID: 77, Started: 5, Pipes: [3]string{"/p/out", "/p/err", "/p/told"}},
			Replicas: []roster.Replica{{ID: "D#001", Deployment: "D"}},
		}},
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if s, err := Read(dir); err != nil || s.Version != 0 {
		t.Errorf("none is there: %+v, %v", s, err)
	}
	for _, next := range []uint64{9, 10} { // the second replaces the first
		want := someSnapshot()
		want.LastID = next
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(dir, b); err != nil {
			t.Fatal(err)
		}
		got, err := Read(dir)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, Name)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}

// TestSnapshotIsRefused: names that would become paths and numbers that would become process ids are checked.
func TestSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Snapshot){
		"version": func(s *Snapshot) { s.Version++ },
		"former":  func(s *Snapshot) { s.Version = wholeVersion - 1 },
		"token":   func(s *Snapshot) { s.Workers[0].Token = "ab" },
		"hex":     func(s *Snapshot) { s.Workers[0].Token = strings.Repeat("zz", 32) },
		"pid":     func(s *Snapshot) { s.Workers[0].Process.PID = -1 },
		"init":    func(s *Snapshot) { s.Workers[0].Process.PID = 1 },
		"id":      func(s *Snapshot) { s.Workers[0].ID = "" },
	} {
		s := someSnapshot()
		spoil(&s)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(b); err == nil || !strings.Contains(err.Error(), Name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFormerFormat: a file of a node that wrote the whole at each change is read.
func TestFormerFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := os.ReadFile("testdata/version4.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, b); err != nil {
		t.Fatal(err)
	}
	want := someSnapshot()
	want.Version = wholeVersion
	got, err := Read(dir)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// FuzzChanges: the changes of a file are made or ignored, and the workers of the result are checked.
func FuzzChanges(f *testing.F) {
	w := someSnapshot().Workers[0]
	seed, _ := lines(change{Of: "x"}, change{LastID: 10, App: json.RawMessage(`{"name":"b"}`)}, change{NoApp: "a"}, change{Worker: &w}, change{NoWork: "a-1"})
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := someSnapshot()
		s.Changes = "x"
		s.apply(b)
		for _, line := range bytes.Split(b, []byte("\n")) { // most lines have a wrong checksum
			var c change
			if json.Unmarshal(line, &c) == nil {
				s.change(c)
			}
		}
		for _, w := range s.Workers {
			if err := w.Check(); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzSnapshot: a file is refused, or its content stays the same when it is written again.
func FuzzSnapshot(f *testing.F) {
	b, _ := json.Marshal(someSnapshot())
	f.Add(b)
	f.Add([]byte(`{"version":1,"workers":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Parse(again); err != nil || !cmp.Equal(s.Workers, back.Workers) || s.LastID != back.LastID {
			t.Errorf("%v\n%s", err, cmp.Diff(s, back))
		}
	})
}
