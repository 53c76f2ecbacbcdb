package snapshot

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/worker"
)

// TestFile: the file is written after a change, only if the state is another one, and not any more after the node has closed.
func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		state := State{LastID: 1}
		f := NewFile(slog.New(slog.DiscardHandler), func(bool) State { return state })
		f.Change()
		if err := f.Save(); err != nil {
			t.Error(err)
		}
		if before := f.Open(dir); before.Version != 0 {
			t.Errorf("before the first there was %+v", before)
		}
		go f.Run(t.Context())
		want := func(step string, lastID uint64) {
			t.Helper()
			synctest.Wait()
			got, err := Read(dir)
			if err != nil || got.LastID != lastID {
				t.Errorf("%s: id %d, want %d (%v)", step, got.LastID, lastID, err)
			}
		}
		want("the change before the directory was known", 1)
		state.LastID = 2
		want("a change that was not noted", 1)
		f.Change()
		want("a change", 2)
		before := files(t, dir)
		f.Change()
		want("the same state", 2)
		if files(t, dir) != before {
			t.Error("the same state was written again")
		}
		state.LastID = 3
		if err := f.Save(); err != nil {
			t.Error(err)
		}
		want("a save", 3)
		if next := NewFile(slog.New(slog.DiscardHandler), nil).Open(dir); next.LastID != 3 {
			t.Errorf("the next node finds %+v", next)
		}
		if got := f.Remove(); got != dir {
			t.Errorf("the directory is %q", got)
		}
		state.LastID = 4
		f.Change()
		if err := f.Save(); err != nil {
			t.Error(err)
		}
		want("the end", 0)
	})
}

// TestFileThatCannotBeWritten: a failed save is tried again by the next one, and an unreadable file counts as none.
func TestFileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	f := NewFile(slog.New(slog.DiscardHandler), func(bool) State { return State{LastID: 7} })
	f.Open(dir)
	if err := f.Save(); err == nil {
		t.Error("a file was written into a directory that is not there")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(); err != nil {
		t.Error(err)
	}
	if got := f.Open(dir); got.LastID != 7 {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, Name), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := f.Open(dir); got.Version != 0 || got.LastID != 0 {
		t.Errorf("an unreadable file is %+v", got)
	}
}

// TestBoot: after a restart of the machine the applications are there, and no worker: another process may have its id.
func TestBoot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, now string
		workers     int
	}{
		"the same": {"a", "a", 1}, "another": {"a", "b", 0}, "not known before": {"", "b", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			boot := c.before
			open := func() (*File, Snapshot) {
				f := NewFile(slog.New(slog.DiscardHandler), func(bool) State {
					return State{
						Names: []string{"a"}, Applications: []Application{{Name: "a", Ranks: map[string]int{"D#1": 0}}},
						Workers: []roster.Worker{{ID: "a-1", App: "a", Token: strings.Repeat("00", 32), Process: worker.Identity{PID: 2}}},
					}
				})
				f.boot = func() string { return boot }
				return f, f.Open(dir)
			}
			f, _ := open()
			if err := f.Save(); err != nil {
				t.Fatal(err)
			}
			boot = c.now
			if _, s := open(); len(s.Workers) != c.workers || len(s.Applications) != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestRetire: the next node of a node that has closed in order has its applications, and no worker.
func TestRetire(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	apps := []Application{{Name: "a", Configs: map[string]json.RawMessage{"D": json.RawMessage(`1`)}, Ranks: map[string]int{"D#1": 0}, Former: []string{"D#2"}}}
	open := func() (*File, Snapshot) {
		f := NewFile(slog.New(slog.DiscardHandler), func(bool) State {
			names := []string{"a"}[:len(apps)]
			return State{Names: names, Applications: apps, Workers: []roster.Worker{{ID: "a-1", App: "a", Token: strings.Repeat("00", 32), Process: worker.Identity{PID: 2}}}}
		})
		return f, f.Open(dir)
	}
	f, _ := open()
	f.Retire()
	apps = nil // the node stops its applications
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	_, s := open()
	if len(s.Workers) > 0 || len(s.Applications) != 1 || string(s.Applications[0].Configs["D"]) != "1" || s.Applications[0].Ranks != nil || s.Applications[0].Former != nil {
		t.Errorf("%+v", s)
	}
}

// files are the contents of the files of a node.
func files(t *testing.T, dir string) (all [2]string) {
	t.Helper()
	for i, name := range []string{Name, ChangesName} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all[i] = string(b)
	}
	return all
}

// putFiles writes the files of a node.
func putFiles(t *testing.T, dir string, all [2]string) {
	t.Helper()
	for i, name := range []string{Name, ChangesName} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(all[i]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// fleet is the state of a node in which applications come, change and go.
type fleet struct {
	apps    map[string]int // by name, with a number of replicas
	workers map[string]int // by id, with the id of the process
	lastID  uint64
	changed map[string]bool
}

func (f *fleet) take(all bool) State {
	s := State{LastID: f.lastID}
	for name, n := range f.apps {
		if s.Names = append(s.Names, name); all || f.changed[name] {
			s.Applications = append(s.Applications, Application{Name: name, Scales: map[string]store.Scale{"D": {Replicas: n, Reason: strings.Repeat("x", 1000)}}})
		}
	}
	for id, pid := range f.workers {
		s.Workers = append(s.Workers, roster.Worker{ID: id, Token: strings.Repeat("00", 32), Process: worker.Identity{PID: pid}})
	}
	f.changed = map[string]bool{}
	return s
}

// change makes a random change.
func (f *fleet) change(r *rand.Rand) {
	name := fmt.Sprint("app", r.IntN(20))
	switch r.IntN(6) {
	case 0:
		delete(f.apps, name)
	case 1:
		delete(f.workers, name)
	case 2:
		f.workers[name] = 2 + r.IntN(1e6)
	case 3:
		f.lastID++
	default:
		f.apps[name] = r.IntN(1e6)
		if f.changed == nil {
			f.changed = map[string]bool{}
		}
		f.changed[name] = true
	}
}

// same fails unless a snapshot has the state.
func (f *fleet) same(t *testing.T, s Snapshot) {
	t.Helper()
	apps, workers := map[string]int{}, map[string]int{}
	for _, a := range s.Applications {
		apps[a.Name] = a.Scales["D"].Replicas
	}
	for _, w := range s.Workers {
		workers[w.ID] = w.Process.PID
	}
	if !maps.Equal(apps, f.apps) || !maps.Equal(workers, f.workers) || s.LastID != f.lastID || len(apps) != len(s.Applications) || len(workers) != len(s.Workers) {
		t.Errorf("%d: %v, %v, want %d: %v, %v", s.LastID, apps, workers, f.lastID, f.apps, f.workers)
	}
}

// TestChanges: after each of many random changes the files have the state as it is, a change writes no more than it has, and the changes are put into the whole from time to time.
func TestChanges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			dir, r := t.TempDir(), rand.New(rand.NewPCG(seed, 0))
			of := &fleet{apps: map[string]int{}, workers: map[string]int{}}
			f := NewFile(slog.New(slog.DiscardHandler), of.take)
			f.Open(dir)
			var whole string
			wholes := 0
			for range 300 {
				of.change(r)
				if err := f.Save(); err != nil {
					t.Fatal(err)
				}
				s, err := Read(dir)
				if err != nil {
					t.Fatal(err)
				}
				of.same(t, s)
				if now := files(t, dir)[0]; now != whole {
					whole = now
					wholes++
				}
			}
			if wholes < 2 || wholes > 30 {
				t.Errorf("the whole was written %d times", wholes)
			}
			if err := f.Finish(); err != nil {
				t.Fatal(err)
			}
			if s, err := Read(dir); err != nil {
				t.Error(err)
			} else {
				of.same(t, s)
			}
		})
	}
}

// TestTornChanges: of changes that were cut off at any byte, as by the end of a machine, the lines before count.
func TestTornChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	of := &fleet{apps: map[string]int{}, workers: map[string]int{}}
	f := NewFile(slog.New(slog.DiscardHandler), of.take)
	f.Open(dir)
	for range 4 { // the first writes the whole
		of.lastID++
		if err := f.Save(); err != nil {
			t.Fatal(err)
		}
	}
	all := files(t, dir)
	for n := range len(all[1]) + 1 {
		torn := all[1][:n]
		want := uint64(max(strings.Count(torn, "\n"), 1))
		putFiles(t, dir, [2]string{all[0], torn})
		if s, err := Read(dir); err != nil || s.LastID != want {
			t.Errorf("%d bytes: id %d, want %d (%v)", n, s.LastID, want, err)
		}
		if n < len(all[1]) && n > 0 {
			putFiles(t, dir, [2]string{all[0], all[1][:n-1] + string(all[1][n-1]^1) + all[1][n:]}) // a bit is another one
			if s, err := Read(dir); err != nil || s.LastID > want {
				t.Errorf("byte %d is another one: id %d, want at most %d (%v)", n, s.LastID, want, err)
			}
		}
	}
}

// TestChangesOfAnother: changes that belong to a whole of before do not count. For example, the node was killed after it had written a new whole.
func TestChangesOfAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	of := &fleet{apps: map[string]int{}, workers: map[string]int{}}
	var before [2]string
	for i := range 2 {
		f := NewFile(slog.New(slog.DiscardHandler), of.take)
		f.Open(dir)
		for range 2 {
			of.lastID++
			if err := f.Save(); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 {
			before = files(t, dir)
			of.lastID = 0
		}
	}
	putFiles(t, dir, [2]string{files(t, dir)[0], before[1]})
	if s, err := Read(dir); err != nil || s.LastID != 1 {
		t.Errorf("id %d, want 1 (%v)", s.LastID, err)
	}
}
