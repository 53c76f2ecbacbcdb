package snapshot

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/worker"
)

// TestFile: the file is written after a change, only if the state is another one, and not any more after the node has closed.
func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		state := Snapshot{LastID: 1}
		f := NewFile(slog.New(slog.DiscardHandler), func() Snapshot { return state })
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
		if err := os.Remove(filepath.Join(dir, Name)); err != nil {
			t.Fatal(err)
		}
		f.Change()
		want("the same state", 0)
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
	f := NewFile(slog.New(slog.DiscardHandler), func() Snapshot { return Snapshot{LastID: 7} })
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
				f := NewFile(slog.New(slog.DiscardHandler), func() Snapshot {
					return Snapshot{
						Applications: []Application{{Name: "a", Ranks: map[string]int{"D#1": 0}}},
						Workers:      []host.WorkerRecord{{ID: "a-1", App: "a", Token: strings.Repeat("00", 32), Process: worker.Identity{PID: 2}}},
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
		f := NewFile(slog.New(slog.DiscardHandler), func() Snapshot {
			return Snapshot{Applications: apps, Workers: []host.WorkerRecord{{ID: "a-1", App: "a", Token: strings.Repeat("00", 32), Process: worker.Identity{PID: 2}}}}
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
