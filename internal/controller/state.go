package controller

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
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/states"
	"github.com/helve-serve/helve/internal/store"
)

// state is the file in a node's private directory that outlasts it.
type state struct {
	dir  string        // "" for none
	kick chan struct{} // the state may have changed

	saving sync.Mutex // one at a time; taken before Controller.mu
	saved  []byte     // the content of the file

	// Guarded by Controller.mu.
	over bool                       // the node has closed in order: no node comes after it
	apps map[string]snapApplication // of the node before, until they are deployed
}

// snapshot is the content of the file: a node that takes the place of a node that was killed reads there the applications that should run and the
// processes that run them. It holds tokens: the file is the user's alone.
type snapshot struct {
	Version      int                 `json:"version"`
	LastID       uint64              `json:"next_id"` // above all ids that were given out: no id is used twice
	Applications []snapApplication   `json:"applications"`
	Workers      []host.WorkerRecord `json:"workers"`
}

type snapApplication struct {
	Name     string                     `json:"name"`
	Revision int                        `json:"revision"`
	Identity string                     `json:"identity"` // of graph and code: see [App.identity]
	Graph    spec.Graph                 `json:"graph"`    // specs and route
	Configs  map[string]json.RawMessage `json:"configs,omitempty"`
	Trials   map[string]json.RawMessage `json:"trials,omitempty"` // user configs that no replica has taken yet
	// Former are replicas that a next node does not go on with: they stop, or their deployment has another version by now.
	Former []string               `json:"former,omitempty"`
	Scales map[string]store.Scale `json:"scales,omitempty"` // numbers of replicas
}

const (
	snapshotVersion = 4
	snapshotName    = "node.snap"
)

// UseDir keeps the node's state in a directory that outlasts it, and finds there the remains of a node that was
// killed: its workers, which go on for grace after their node has gone, are taken over with their replicas when their
// application is deployed again as it was. It must be called before the first Deploy. Only one node uses a directory.
func (c *Controller) UseDir(dir string, grace time.Duration) error {
	return c.workers.UseDir(dir, grace, func(dir string) (lastID uint64, before []host.WorkerRecord) {
		snap, err := readSnapshot(dir)
		if err != nil { // its workers find no node that knows them, and end
			c.log.Error("the state of the node before is lost", "dir", dir, "error", err)
			snap = snapshot{}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state.dir, c.state.apps = dir, map[string]snapApplication{}
		for _, a := range snap.Applications {
			c.state.apps[a.Name] = a
		}
		c.wg.Go(c.saver)
		return snap.LastID, snap.Workers
	})
}

// saver writes the file when something has changed.
func (c *Controller) saver() {
	for {
		select {
		case <-c.state.kick:
		case <-c.ctx.Done():
			return
		}
		if err := c.save(); err != nil {
			c.log.Error("the node's state was not saved", "dir", c.state.dir, "error", err)
		}
	}
}

// Forget removes the state of a node that closes in order.
func (c *Controller) Forget() {
	if c.state.dir == "" {
		return
	}
	c.mu.Lock()
	c.state.over = true
	c.mu.Unlock()
	c.state.saving.Lock()
	defer c.state.saving.Unlock()
	os.Remove(filepath.Join(c.state.dir, snapshotName))
	build.Forget(c.state.dir)
}

// claimLocked takes over the state that the node before had of an application that is deployed now: its revision number, user
// configs and workers. If it is not the same any more, its workers are ended.
func (c *Controller) claimLocked(r *revision) {
	a := r.app
	was, ok := c.state.apps[a.name]
	if !ok {
		return
	}
	delete(c.state.apps, a.name)
	same := was.Identity == r.identity && r.identity != ""
	for name, d := range a.deployments {
		if config, ok := was.Configs[name]; ok && same {
			d.now.acceptLocked(config, d.nextConfigLocked())
		}
		if config, ok := was.Trials[name]; ok && same {
			d.now.trial = &trial{config, d.nextConfigLocked()}
		}
	}
	for _, w := range c.workers.Former(a.name) {
		if same {
			c.takeOverLocked(w, r, was.Former)
		} else {
			c.workers.Dismiss(w.ID, "the application has changed")
		}
	}
}

// takeOverLocked expects a worker and its replicas. They count as being there, so that nothing is started in their place
// before it is known what has become of them. The former replicas end with their worker, or are stopped. For example, the node before was killed
// while it changed a Python deployment from code 1 to code 2: the worker with code 1 is ended, and the other one serves.
func (c *Controller) takeOverLocked(w host.WorkerRecord, r *revision, former []string) {
	t := host.Takeover{ID: w.ID, Replicas: map[string]string{}, GiveUp: r.ctx}
	recovered := map[string]*replica{}
	for _, sr := range w.Replicas {
		d := r.app.deployments[sr.Deployment]
		if d == nil || d.now.revision != r || slices.Contains(former, sr.ID) {
			continue
		}
		t.Replicas[sr.ID] = sr.Deployment
		recovered[sr.ID] = c.newReplicaLocked(d, sr.ID, time.Now())
		recovered[sr.ID].fireLocked(states.Recover, states.Facts{}, 0, nil)
	}
	if len(w.Replicas) > 0 && len(t.Replicas) == 0 {
		c.workers.Dismiss(w.ID, "none of its replicas is wanted any more")
		return
	}
	t.Host = func(deployment string) host.Host {
		for _, d := range r.app.deployments {
			if d.now.revision == r && (deployment == "" || d.name == deployment) {
				return d.now.starter
			}
		}
		return nil
	}
	t.Unknown = func(w *host.Worker, id, deployment string) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		d := r.app.deployments[deployment]
		if d == nil || d.now.revision != r || slices.Contains(former, id) {
			return false
		}
		u := c.newReplicaLocked(d, id, time.Now())
		u.fireLocked(states.Recover, states.Facts{}, 0, nil)
		c.launchLocked(u, w)
		return true
	}
	worker := c.workers.TakeOver(t)
	if worker == nil {
		for id, u := range recovered {
			c.forgetLocked(u, states.Stopped, states.Facts{}, nil)
			delete(recovered, id)
		}
		return
	}
	for _, u := range recovered {
		c.launchLocked(u, worker)
	}
}

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
		if err := w.Check(); err != nil {
			return snapshot{}, fmt.Errorf("%s: %w", snapshotName, err)
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

// applicationsLocked are the applications as they are now.
func (c *Controller) applicationsLocked() []snapApplication {
	all := []snapApplication{}
	for _, a := range c.apps {
		if a.deleted || a.failure != nil {
			continue
		}
		r := a.current
		app := snapApplication{Name: a.name, Revision: r.number, Identity: r.identity, Graph: r.def.Graph}
		for _, d := range a.deployments {
			for id, of := range d.replicas {
				if of.state == helvetype.ReplicaStopping || of.of.version != d.now.version || d.now.revision != r {
					app.Former = append(app.Former, id)
				}
			}
			e := d.now
			if e.revision == r {
				put(&app.Scales, d.name, d.scaleRecordLocked())
			}
			if e.revision == r && string(e.config) != string(e.host.Spec.Options.UserConfig) {
				put(&app.Configs, d.name, e.config)
			}
			if e.revision == r && e.trial != nil {
				put(&app.Trials, d.name, e.trial.config)
			}
		}
		slices.Sort(app.Former)
		all = append(all, app)
	}
	slices.SortFunc(all, func(a, b snapApplication) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func put[V any](m *map[string]V, name string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[name] = v
}

// save writes the snapshot if anything in it has changed since the last time.
func (c *Controller) save() error {
	if c.state.dir == "" {
		return nil
	}
	c.state.saving.Lock()
	defer c.state.saving.Unlock()
	lastID, workers := c.workers.Snapshot()
	c.mu.Lock()
	over := c.state.over
	b, err := json.MarshalIndent(snapshot{snapshotVersion, lastID, c.applicationsLocked(), workers}, "", " ")
	c.mu.Unlock()
	if err != nil || over || bytes.Equal(b, c.state.saved) {
		return err
	}
	if err = writeSnapshot(c.state.dir, b); err == nil {
		c.state.saved = b
	}
	return err
}

// identity tells whether a worker that was started for an application can serve it as it is defined here: the graph, the code, and
// the inputs of its process. Options that may change while it runs, like the number of replicas, are not part of it.
func (a *App) identity(own host.Program) string {
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
		a.Graph.Digest(), p.Path, host.Fingerprint(p.Path), p.Args, p.Dir, env, dir, limits,
		python, a.Python.Interpreter, a.Python.SysPath, a.Python.Last, a.Python.Dir, a.Python.Env, hex.EncodeToString(blob[:]), a.Python.Code, a.CodeVersions,
	})
	if err != nil {
		return "" // equal to nothing, see [Controller.claimLocked]
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// pythonCode identifies the code of a Python deployment and the process that runs it; "" for code that is new in each deploy, unless
// version says otherwise. The code of two revisions is equal when both come from one import path whose module files have the same
// bytes, or when both set the same version. Pickles are never compared: they differ from run to run.
func (a *App) pythonCode(name, version string) string {
	code := a.CodeVersions[name]
	if version != "" {
		code = version
	}
	if code == "" {
		return ""
	}
	py := a.Python
	b, err := json.Marshal([]any{code, py.Interpreter, py.SysPath, py.Last, py.Dir, py.Env, py.Code[name]})
	if err != nil {
		return ""
	}
	return "python " + string(b)
}
