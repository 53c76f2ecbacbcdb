package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

// snapshot is what a node keeps in its private directory, so that the one that takes its place knows what should run and
// which processes run it. It holds tokens: the file is the user's alone.
type snapshot struct {
	Version      int               `json:"version"`
	NextID       uint64            `json:"next_id"` // above all ids that are given out: none is used twice
	Applications []snapApplication `json:"applications"`
	Workers      []snapWorker      `json:"workers"`
}

type snapApplication struct {
	Name     string                     `json:"name"`
	Revision int                        `json:"revision"`
	Identity string                     `json:"identity"` // of graph and code: see [App.identity]
	Graph    spec.Graph                 `json:"graph"`    // specs and route
	Configs  map[string]json.RawMessage `json:"configs,omitempty"`
	Trials   map[string]json.RawMessage `json:"trials,omitempty"` // user configs that no replica has taken yet
}

type snapWorker struct {
	ID       string          `json:"id"`
	App      string          `json:"app"`
	Revision int             `json:"revision"`
	Token    string          `json:"token"` // hex
	Process  worker.Identity `json:"process"`
	Replicas []snapReplica   `json:"replicas"`
}

type snapReplica struct {
	ID         string `json:"id"`
	Deployment string `json:"deployment"`
}

const (
	snapshotVersion = 2
	snapshotName    = "node.snap"
	// idsAhead is how many ids, at least, a node may give out before it must have saved again: what it started last may not be in
	// the file when it is killed, and lives on under its id all the same.
	idsAhead = 256
)

// readSnapshot gives an empty one if there is none.
func readSnapshot(dir string) (snapshot, error) {
	b, err := os.ReadFile(filepath.Join(dir, snapshotName))
	if errors.Is(err, fs.ErrNotExist) {
		return snapshot{}, nil
	}
	if err != nil {
		return snapshot{}, err
	}
	return parseSnapshot(b)
}

func parseSnapshot(b []byte) (s snapshot, err error) {
	if err := json.Unmarshal(b, &s); err != nil {
		return snapshot{}, fmt.Errorf("%s: %w", snapshotName, err)
	}
	if s.Version != snapshotVersion {
		return snapshot{}, fmt.Errorf("%s: version %d, this node reads %d", snapshotName, s.Version, snapshotVersion)
	}
	for _, w := range s.Workers {
		// These names become paths and process ids.
		if token, err := hex.DecodeString(w.Token); err != nil || len(token) != 32 || w.ID == "" || w.Process.PID <= 1 {
			return snapshot{}, fmt.Errorf("%s: worker %q: malformed", snapshotName, w.ID)
		}
	}
	return s, nil
}

// writeSnapshot replaces the file: after a crash of the machine too it is the old or the new one, whole.
func writeSnapshot(dir string, b []byte) error {
	name := filepath.Join(dir, snapshotName)
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
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// snapshotLocked is the node as it is now.
func (n *Node) snapshotLocked() snapshot {
	s := snapshot{Version: snapshotVersion, NextID: (n.nextID/idsAhead + 2) * idsAhead, Applications: []snapApplication{}, Workers: []snapWorker{}}
	for _, a := range n.apps {
		if a.deleted || a.failure != nil {
			continue
		}
		r := a.current
		app := snapApplication{Name: a.name, Revision: r.number, Identity: r.identity, Graph: r.def.Graph}
		for _, d := range a.deployments {
			e := d.now.Load()
			if e.revision == r && e.configVersion > 0 {
				put(&app.Configs, d.name, e.config)
			}
			if e.revision == r && e.trial != nil {
				put(&app.Trials, d.name, e.trial.config)
			}
		}
		s.Applications = append(s.Applications, app)
	}
	for _, w := range n.workers {
		if w.proc == nil || w.ending.Load() || w.proc.Identity().PID == 0 {
			continue
		}
		sw := snapWorker{
			ID: w.id, App: w.app.name, Revision: w.rev.number, Token: hex.EncodeToString(w.token[:]), Process: w.proc.Identity(),
			Replicas: []snapReplica{},
		}
		for _, u := range w.unitsLocked() {
			if u.state != helvetype.ReplicaStopping {
				sw.Replicas = append(sw.Replicas, snapReplica{u.id, u.dep.name})
			}
		}
		slices.SortFunc(sw.Replicas, func(a, b snapReplica) int { return strings.Compare(a.ID, b.ID) })
		s.Workers = append(s.Workers, sw)
	}
	slices.SortFunc(s.Applications, func(a, b snapApplication) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Workers, func(a, b snapWorker) int { return strings.Compare(a.ID, b.ID) })
	return s
}

func put(m *map[string]json.RawMessage, name string, config json.RawMessage) {
	if *m == nil {
		*m = map[string]json.RawMessage{}
	}
	(*m)[name] = config
}

// save writes the snapshot if anything in it has changed since the last time.
func (n *Node) save() error {
	if n.state.dir == "" {
		return nil
	}
	n.state.saving.Lock()
	defer n.state.saving.Unlock()
	n.mu.Lock()
	over := n.state.over
	b, err := json.MarshalIndent(n.snapshotLocked(), "", " ")
	n.mu.Unlock()
	if err != nil || over || bytes.Equal(b, n.state.saved) {
		return err
	}
	if err = writeSnapshot(n.state.dir, b); err == nil {
		n.state.saved = b
	}
	return err
}

// identity tells whether a worker that was started for an application can serve it as it is defined here: the graph, the code, and
// what its process was given. What may change while it runs, like the number of replicas, is not part of it.
func (a *App) identity(own Program) string {
	p := own
	if a.Program != nil {
		p = *a.Program
	}
	env, dir, limits := a.Graph.GoWorker()
	var python []any
	for _, d := range a.Graph.Deployments {
		if d.Language == "python" {
			python = append(python, d.Name, d.Options.Env, d.Options.Dir, d.Options.Limits)
		}
	}
	blob := sha256.Sum256(a.Python.Blob)
	b, err := json.Marshal([]any{
		a.Graph.Digest(), p.Path, fingerprint(p.Path), p.Args, p.Dir, env, dir, limits,
		python, a.Python.Interpreter, a.Python.SysPath, a.Python.Last, a.Python.Dir, a.Python.Env, hex.EncodeToString(blob[:]), a.Python.Code,
	})
	if err != nil {
		return "" // equal to nothing, see [Node.claimLocked]
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// fingerprint changes when a file is replaced or written to.
func fingerprint(path string) string {
	st, err := os.Stat(path)
	if err != nil {
		return ""
	}
	sys, _ := st.Sys().(*syscall.Stat_t)
	if sys == nil {
		return ""
	}
	return fmt.Sprint(sys.Dev, sys.Ino, st.Size(), st.ModTime().UnixNano())
}
