// Package snapshot is the state that a node keeps in its private directory for a next node, which takes its place. A file has the whole state, and a second one the
// changes since then, so that a change costs as much as it is large: for example, of a hundred applications one is scaled, and that one is written. When the changes
// have become as long as the state, the whole is written again.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// Snapshot is the content of the file: a node that takes the place of a node that was killed reads there the applications that should run and the
// processes that run them. It holds tokens: the file is the user's alone.
type Snapshot struct {
	Version      int             `json:"version"`
	Boot         string          `json:"boot,omitempty"` // of the machine: another one after each start of it; "" if it is not known
	LastID       uint64          `json:"next_id"`        // above all ids that were given out: no id is used twice
	Applications []Application   `json:"applications"`
	Workers      []roster.Worker `json:"workers"`
	// Changes names the file of changes that belongs to this one ([ChangesName]); "" for none.
	Changes string `json:"changes,omitempty"`
}

// State is the state of a node, as far as it may have changed since the last time.
type State struct {
	LastID       uint64
	Names        []string        // of all applications
	Applications []Application   // that may have changed
	Workers      []roster.Worker // all
}

// Application is an application as the node had it.
type Application struct {
	Name     string                     `json:"name"`
	Revision int                        `json:"revision"`
	Identity string                     `json:"identity"` // of graph and code: see [deploy.App.Identity]
	Graph    spec.Graph                 `json:"graph"`    // specs and route
	Configs  map[string]json.RawMessage `json:"configs,omitempty"`
	Trials   map[string]json.RawMessage `json:"trials,omitempty"` // user configs that no replica has taken yet
	// Former are replicas that a next node does not go on with: they stop, or their deployment has another version by now.
	Former []string               `json:"former,omitempty"`
	Scales map[string]store.Scale `json:"scales,omitempty"` // numbers of replicas
	Ranks  map[string]int         `json:"ranks,omitempty"`  // by replica
	// Started are the times of the begins of replicas, by replica.
	Started map[string]time.Time `json:"started,omitempty"`
	// Before has the histories of the places of replicas, by replica; a replica that is the first one in its place has none.
	Before map[string]Before `json:"before,omitempty"`
	// Previous is the application as the revision before has it, while it changes from that to this one; else nil.
	Previous *Application `json:"previous,omitempty"`
}

// Replica is a replica as the node had it.
type Replica struct {
	Started time.Time // zero if it is not known
	Rank    *int      // nil without a rank
	Before  Before
}

// Before is the history of a replica's place: how many replicas in a row have ended there before it, and the end of the last, without its lines.
type Before struct {
	Restarts int             `json:"restarts"`
	Exit     *helvetype.Exit `json:"exit,omitempty"`
}

// AddReplica adds a replica. A former one is not gone on with.
func (a *Application) AddReplica(id string, r Replica, former bool) {
	put(&a.Started, id, r.Started.UTC())
	if r.Rank != nil {
		put(&a.Ranks, id, *r.Rank)
	}
	if b := r.Before; b.Restarts > 0 {
		if b.Exit != nil {
			short := *b.Exit
			short.Lines = nil
			b.Exit = &short
		}
		put(&a.Before, id, b)
	}
	if former {
		a.Former = append(a.Former, id)
	}
}

// Replica is a replica of the application; the zero Replica if it is not known.
func (a *Application) Replica(id string) (r Replica) {
	r.Started, r.Before = a.Started[id], a.Before[id]
	if rank, ok := a.Ranks[id]; ok {
		r.Rank = &rank
	}
	return r
}

// AddDeployment adds the number of replicas of a deployment, and its user config if that is not the submitted one.
func (a *Application) AddDeployment(name string, scale store.Scale, submitted, config json.RawMessage) {
	put(&a.Scales, name, scale)
	if string(config) != string(submitted) {
		put(&a.Configs, name, config)
	}
}

// AddTrial adds the user config of a deployment that no replica has taken yet.
func (a *Application) AddTrial(name string, config json.RawMessage) { put(&a.Trials, name, config) }

// Forget takes the replicas out, which end with their node.
func (a *Application) Forget() {
	a.Former, a.Ranks, a.Started, a.Before, a.Previous = nil, nil, nil, nil, nil
}

func put[V any](m *map[string]V, name string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[name] = v
}

// Version is the version of the format, and Name the name of the file. A file of the version wholeVersion has no changes.
const (
	Version      = 5
	wholeVersion = 4
	Name         = "node.snap"
)

// Read reads the files in a directory. It gives an empty snapshot if there is none.
func Read(dir string) (s Snapshot, err error) {
	b, err := os.ReadFile(filepath.Join(dir, Name))
	if errors.Is(err, fs.ErrNotExist) {
		return Snapshot{}, nil
	}
	if err != nil {
		return Snapshot{}, err
	}
	if s, err = Parse(b); err != nil {
		return s, err
	}
	if changes, err := os.ReadFile(filepath.Join(dir, ChangesName)); err == nil {
		s.apply(changes)
	}
	s.Changes = ""
	return s, nil
}

// Parse reads the content of a file.
func Parse(b []byte) (s Snapshot, err error) {
	if err := json.Unmarshal(b, &s); err != nil {
		return Snapshot{}, fmt.Errorf("%s: %w", Name, err)
	}
	if s.Version != Version && s.Version != wholeVersion {
		return Snapshot{}, fmt.Errorf("%s: version %d, this node reads %d", Name, s.Version, Version)
	}
	for _, w := range s.Workers {
		if err := w.Check(); err != nil {
			return Snapshot{}, fmt.Errorf("%s: %w", Name, err)
		}
	}
	return s, nil
}

// Write replaces the file in a directory: after a crash of the machine too it is the old or the new one, whole.
func Write(dir string, b []byte) error {
	name := filepath.Join(dir, Name)
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir has the names of files in a directory outlive a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
