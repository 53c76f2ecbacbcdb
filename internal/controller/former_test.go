package controller

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/codec"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/roster"
	"github.com/helve-serve/helve/internal/snapshot"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
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
	c.Mu.Lock()
	defer c.Mu.Unlock()
	a := c.NewApplicationLocked(t.Context(), "app", nil)
	delete(c.Apps, a.Name) // its hosts, which are nil, cannot be closed
	before, now := &fleet.Revision{App: a, Number: 1}, &fleet.Revision{App: a, Number: 2, Def: pythonApp()}
	a.Current = now
	deployed := func(r *fleet.Revision, version string) *fleet.DeploymentRevision {
		return &fleet.DeploymentRevision{Revision: r, Version: version, Definition: &host.Deployment{}}
	}
	kept, changed := deployed(now, "1"), deployed(now, "2")
	left := deployed(before, "1")
	for name, d := range map[string]*fleet.Deployment{
		"Kept": {Now: kept, Replicas: map[string]*fleet.Replica{
			"Kept#1": {Of: kept, State: helvetype.ReplicaRunning}, "Kept#2": {Of: kept, State: helvetype.ReplicaStopping},
			"Kept#3": {Of: kept, State: helvetype.ReplicaStarting},
		}},
		"Changed": {Now: changed, Replicas: map[string]*fleet.Replica{
			"Changed#1": {Of: deployed(before, "1"), State: helvetype.ReplicaRunning}, "Changed#2": {Of: changed, State: helvetype.ReplicaRunning},
		}},
		"Left": {Now: left, Replicas: map[string]*fleet.Replica{"Left#1": {Of: left, State: helvetype.ReplicaRunning}}},
	} {
		d.Name, d.App = name, a
		a.Deployments[name] = d
	}
	c.Apps = map[string]*fleet.Application{"app": a}
	got := a.SnapshotLocked(nil).Former
	c.Apps = map[string]*fleet.Application{}
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
		snap.Workers = append(snap.Workers, roster.Worker{
			ID: "app-" + id, App: "app", Token: strings.Repeat("00", 32), Process: worker.Identity{PID: 1 << 30}, // there is none
			Replicas: []roster.Replica{{ID: "D#" + id, Deployment: "D"}},
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

// TestDeletedApplicationLeavesNothing: a node was killed while it deleted an application: the store does not have it any more, and the file of the node still
// has. The next node ends its workers, and an application that is deployed later under that name begins with its own user config, number of replicas and revision.
func TestDeletedApplicationLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, d := t.TempDir(), newDurable(nil)
	def := appOf(map[string]int{"A": 1}, nil)
	var got string // by the instance
	def.Graph.Deployments[0].Options.UserConfig = json.RawMessage(`"submitted"`)
	def.Classes["A"].Configure = func(_ context.Context, _ any, config json.RawMessage) error {
		got = string(config)
		return nil
	}
	first := d.node()
	err := first.UseDir(dir, time.Minute) // the directory is a node's from now on
	if err = errors.Join(err, first.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	was := snapshot.Application{
		Name: "app", Revision: 7, Identity: def.Identity(host.Program{}), Graph: def.Graph,
		Configs: map[string]json.RawMessage{"A": json.RawMessage(`"changed"`)}, Scales: map[string]store.Scale{"A": {Replicas: 5}},
	}
	b, err := json.Marshal(snapshot.Snapshot{Version: snapshot.Version, LastID: 100, Applications: []snapshot.Application{was}, Workers: []roster.Worker{{
		ID: "app-1", App: "app", Token: strings.Repeat("00", 32), Process: worker.Identity{PID: 1 << 30}, // there is none
	}}})
	if err = errors.Join(err, snapshot.Write(dir, b)); err != nil {
		t.Fatal(err)
	}
	second := d.node()
	defer second.kill()
	if err := second.UseDir(dir, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := second.All(second.ctx, second.wg.Go); err != nil {
		t.Fatal(err)
	}
	if left := second.workers.Former("app"); len(left) > 0 {
		t.Errorf("workers that are kept for it: %v", left)
	}
	if err := second.Deploy(t.Context(), def); err != nil {
		t.Fatal(err)
	}
	number, replicas := second.Applications()["app"].Revision, second.Scales.Of("app", "A").Record.Replicas
	if got != `"submitted"` || number != 1 || replicas != 1 {
		t.Errorf("user config %s, revision %d, %d replicas; want what was deployed, revision 1, 1 replica", got, number, replicas)
	}
}
