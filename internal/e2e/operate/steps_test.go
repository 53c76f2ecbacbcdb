package operate_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Model is the deployment that a [Front] calls. Its constructor fails in a version whose name begins with "bad".
type Model struct{}

// Version answers with the version.
func (Model) Version(context.Context, string) (string, error) { return version(), nil }

// Front is an ingress that says its version and that of a replica of the model.
type Front struct{ model helve.Method[string, string] }

// Ask answers, for example, with "v2/v1".
func (f Front) Ask(ctx context.Context, _ string) (string, error) {
	of, err := f.model.Call(ctx, "")
	return version() + "/" + of, err
}

// The application pair has one replica of the front and four of the model. Each of its rollouts waits until it is resumed when the front and one model are new.
var _ = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("pair")
	app.RoutePrefix("/pair")
	model := helve.Deploy(app, "Model", func(context.Context) (Model, error) {
		if strings.HasPrefix(version(), "bad") {
			return Model{}, errors.New("bad build")
		}
		return Model{}, nil
	}, helve.Options{NumReplicas: new(4), Isolation: helve.Process, Rollout: helvetype.RolloutOptions{Steps: []string{"1"}}})
	call := helve.MethodOf(model, Model.Version)
	front := helve.Deploy(app, "Front", func(context.Context) (Front, error) { return Front{call}, nil },
		helve.Options{NumReplicas: new(1), MaxOngoingRequests: new(100), Isolation: helve.Process, Uses: []helve.Target{model}})
	app.Ingress(helve.MethodOf(front, Front.Ask))
	return app, nil
})

// waiting deploys the application in the version v1, and then in v2, whose rollout waits at its step. end ends the operator.
func (n *node) waiting() (end func()) {
	n.t.Helper()
	sys := n.operator()
	if err := sys.Deploy(n.t.Context(), form("pair", "v1")); err != nil {
		n.t.Fatalf("%v\n%s", err, n.report())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sys.Deploy(ctx, form("pair", "v2")) //nolint:errcheck // its node is killed
	}()
	n.await("the step", func() bool {
		a, _, _ := n.application("pair")
		return a.Rollout != nil && a.Rollout.State == "waiting"
	})
	return func() {
		cancel()
		<-ended
		sys.Close(context.Background())
	}
}

// answers are the answers of n requests, which all have to come.
func (n *node) answers(number int) (all []string) {
	n.t.Helper()
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	for range number {
		text, err := ask(client, "http://"+n.http+"/pair")
		if err != nil {
			n.t.Fatalf("%v\n%s", err, n.report())
		}
		all = append(all, text)
	}
	return all
}

// answering waits until a request of the application is answered.
func (n *node) answering() {
	n.t.Helper()
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	n.await("an answer", func() bool {
		_, err := ask(client, "http://"+n.http+"/pair")
		return err == nil
	})
}

// whole says that both deployments have their replicas, all of which run.
func whole(a details.AppDetails) bool {
	for _, d := range a.Deployments {
		if len(d.Replicas) != d.TargetNumReplicas || slices.ContainsFunc(d.Replicas, func(r details.ReplicaDetails) bool { return r.State != helvetype.ReplicaRunning }) {
			return false
		}
	}
	return len(a.Deployments) == 2
}

// testKilledOverAStep kills the node while a bad deploy fails that has taken the place of a rollout at its step. The version before comes back without an operator.
func testKilledOverAStep(t *testing.T, binary string) {
	n := start(t, binary)
	end := n.waiting()
	defer end()
	sys := n.operator()
	defer sys.Close(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sys.Deploy(ctx, form("pair", "bad")) //nolint:errcheck // its node is killed
	}()
	defer func() { cancel(); <-ended }()
	n.await("the bad deploy", func() bool { // which may have failed already
		a, _, _ := n.application("pair")
		return a.Revision == 3 || a.Status == helvetype.ApplicationDeployFailed
	})
	n.kill()
	n.answering()
	n.await("the version before", func() bool {
		a, _, _ := n.application("pair")
		return a.Status == helvetype.ApplicationDeployFailed && a.Revision == 1 && whole(a)
	})
	for _, text := range n.answers(10) {
		if text != "v1/v1" {
			t.Errorf("an answer of %s", text)
		}
	}
}

// testRestartedInAPause ends all processes while a rollout is paused at its step. The application answers again without an operator, and resume ends the rollout.
func testRestartedInAPause(t *testing.T, binary string) {
	n := start(t, binary)
	end := n.waiting()
	defer end()
	if err := n.admin.Pause(t.Context(), "pair"); err != nil {
		t.Fatal(err)
	}
	n.restart()
	n.answering()
	n.await("all replicas", func() bool { a, _, _ := n.application("pair"); return whole(a) })
	n.answers(10)
	if a, _, _ := n.application("pair"); a.Rollout == nil || a.Rollout.State != "paused" {
		t.Errorf("the rollout is not paused: %+v", a.Rollout)
	}
	n.await("the new version", func() bool {
		n.admin.Resume(t.Context(), "pair") //nolint:errcheck // it is refused while the rollout goes on
		a, _, _ := n.application("pair")
		return a.Status == helvetype.ApplicationRunning && a.Revision == 2 && whole(a) && (a.Rollout == nil || a.Rollout.State == "watching")
	})
	for _, text := range n.answers(10) {
		if text != "v2/v2" {
			t.Errorf("an answer of %s", text)
		}
	}
}
