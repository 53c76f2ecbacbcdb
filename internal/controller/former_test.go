package controller

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/worker"
)

// hostedTestNode starts a controller whose replicas have the hosts of their kinds.
func hostedTestNode() *testNode {
	return startTestNode(Settings{}, host.Settings{}, func(*host.Deployment, *codec.Codec) host.Host { return nil })
}

// pythonApp is an application with the Python deployment D, whose workers end at once.
func pythonApp() deploy.App {
	return deploy.App{
		Graph:  spec.Graph{App: "app", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "python", Import: "m:D"}}},
		Python: host.Python{Interpreter: "/bin/false"},
	}
}

// TestFormerReplicasInState: the state names the replicas that a next node does not go on with.
func TestFormerReplicasInState(t *testing.T) {
	t.Parallel()
	n := hostedTestNode()
	defer n.Close(t.Context()) //nolint:errcheck // it has no calls
	c := n.Controller
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &application{c: c, name: "app", deployments: map[string]*deployment{}}
	before, now := &revision{app: a, number: 1}, &revision{app: a, number: 2, def: pythonApp()}
	a.current = now
	deployed := func(r *revision, version string) *deploymentRevision {
		return &deploymentRevision{revision: r, version: version, definition: &host.Deployment{}}
	}
	kept, changed := deployed(now, "1"), deployed(now, "2")
	left := deployed(before, "1")
	for name, d := range map[string]*deployment{
		"Kept": {now: kept, replicas: map[string]*replica{
			"Kept#1": {of: kept, state: helvetype.ReplicaRunning}, "Kept#2": {of: kept, state: helvetype.ReplicaStopping},
			"Kept#3": {of: kept, state: helvetype.ReplicaStarting},
		}},
		"Changed": {now: changed, replicas: map[string]*replica{
			"Changed#1": {of: deployed(before, "1"), state: helvetype.ReplicaRunning}, "Changed#2": {of: changed, state: helvetype.ReplicaRunning},
		}},
		"Left": {now: left, replicas: map[string]*replica{"Left#1": {of: left, state: helvetype.ReplicaRunning}}},
	} {
		d.name, d.app = name, a
		a.deployments[name] = d
	}
	c.apps = map[string]*application{"app": a}
	got := c.applicationsLocked()[0].Former
	c.apps = map[string]*application{}
	if want := []string{"Changed#1", "Kept#2", "Left#1"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestFormerReplicasAreNotTakenOver: of three workers of the node before, the one that has a replica of the deployment's version is expected
// again, and the ones whose replica is a former one are not, although the application is the same.
func TestFormerReplicasAreNotTakenOver(t *testing.T) {
	t.Parallel()
	dir, def := t.TempDir(), pythonApp()
	first := hostedTestNode()
	err := first.UseDir(dir, time.Minute) // the directory is a node's from now on
	if err = errors.Join(err, first.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	was := snapshot.Application{Name: "app", Revision: 2, Identity: def.Identity(host.Program{}), Graph: def.Graph, Former: []string{"D#1", "D#3"}}
	snap := snapshot.Snapshot{Version: snapshot.Version, LastID: 100, Applications: []snapshot.Application{was}}
	for _, id := range []string{"1", "2", "3"} {
		snap.Workers = append(snap.Workers, host.WorkerRecord{
			ID: "app-" + id, App: "app", Token: strings.Repeat("00", 32), Process: worker.Identity{PID: 1 << 30}, // there is none
			Replicas: []host.ReplicaRecord{{ID: "D#" + id, Deployment: "D"}},
		})
	}
	b, err := json.Marshal(snap)
	if err == nil {
		err = snapshot.Write(dir, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := hostedTestNode()
	defer c.Close(t.Context()) //nolint:errcheck // it has no calls
	if err := c.UseDir(dir, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := c.Deploy(t.Context(), def); err == nil {
		t.Error("an application whose workers end at once was deployed")
	}
	events, _ := c.set.Events.Since(0, 1000)
	var recovered []string
	for _, e := range events {
		if e.Reason == "recover" {
			recovered = append(recovered, e.Object.Replica)
		}
	}
	if !slices.Equal(recovered, []string{"D#2"}) {
		t.Errorf("the replicas %v were expected, want D#2", recovered)
	}
}
