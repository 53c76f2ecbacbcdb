package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
)

// patient is an instance whose health is decided by the test.
type patient struct{ sick *atomic.Bool }

func (p patient) CheckHealth(context.Context) error {
	if p.sick.Load() {
		return errors.New("it is sick")
	}
	return nil
}

// ward is an application. The replicas of a deployment are sick together.
func ward(names ...string) (def deploy.App, sick map[string]*atomic.Bool) {
	def, sick = deploy.App{Graph: graphOf(spec.Deployment{Name: names[0]}), Classes: map[string]*instance.Class{}, Retry: true, Replace: true}, map[string]*atomic.Bool{}
	def.Graph.Deployments = nil
	for _, name := range names {
		p := patient{new(atomic.Bool)}
		sick[name] = p.sick
		def.Classes[name] = &instance.Class{
			App: "app", Deployment: name, Methods: instance.Methods(reflect.TypeFor[nothing]()),
			Construct: func(context.Context) (any, error) { return p, nil },
		}
		def.Graph.Deployments = append(def.Graph.Deployments, spec.Deployment{Name: name, Language: "go", Options: spec.Options{
			HealthCheckPeriod: time.Second,
		}})
	}
	return def, sick
}

// brief is the status of the application and its deployments.
func brief(n *testNode) string {
	synctest.Wait()
	a := n.Status().Applications["app"]
	s := fmt.Sprintf("%s", a.Status)
	for _, name := range []string{"A", "B"} {
		if d, ok := a.Deployments[name]; ok {
			s += fmt.Sprintf(" %s:%s", name, d.Status)
		}
	}
	return s
}

// TestApplicationIsAsItsWorstDeploymentIs, and says which one and why.
func TestApplicationIsAsItsWorstDeploymentIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context())
		def, sick := ward("A", "B")
		if err := n.Deploy(t.Context(), def); err != nil {
			t.Fatal(err)
		}
		want := func(status string, message ...string) {
			t.Helper()
			if got := brief(n); got != status {
				t.Errorf("%s, want %s", got, status)
			}
			text := n.Status().Applications["app"].Message
			for _, m := range message {
				if !strings.Contains(text, m) {
					t.Errorf("the message %q does not say %q", text, m)
				}
			}
			if len(message) == 0 && text != "" {
				t.Errorf("the message is %q", text)
			}
		}
		want("RUNNING A:HEALTHY B:HEALTHY")
		sick["B"].Store(true)
		time.Sleep(5 * time.Second)
		want("UNHEALTHY A:HEALTHY B:UNHEALTHY", "deployment B: ", "B.CheckHealth: it is sick")
		sick["B"].Store(false)
		time.Sleep(time.Minute)
		want("RUNNING A:HEALTHY B:HEALTHY")
		next, sickNext := ward("A", "B")
		sickNext["A"].Store(true)
		deployed := make(chan error, 1)
		go func() { deployed <- n.Deploy(t.Context(), next) }()
		want("DEPLOYING A:UPDATING B:HEALTHY", "deployment A: ", "A.CheckHealth: it is sick")
		sickNext["A"].Store(false)
		if err := <-deployed; err != nil {
			t.Error(err)
		}
		want("RUNNING A:HEALTHY B:HEALTHY")
	})
}

// TestEmptyListsOfAStatusAreLists for clients in all languages.
func TestEmptyListsOfAStatusAreLists(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context())
		def, _ := ward("A")
		if err := n.Deploy(t.Context(), def); err != nil {
			t.Fatal(err)
		}
		if err := n.Scale(t.Context(), "app", "A", 0, "test", "no replica is needed"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b, err := json.Marshal(n.Status())
		if err != nil || !strings.Contains(string(b), `"replicas":[]`) || strings.Contains(string(b), "null") {
			t.Errorf("%s, %v", b, err)
		}
	})
}

// TestRefusedRevisionLeavesNoTrace: failures of a revision that did not start are not shown with the next revision, nor with the one
// before.
func TestRefusedRevisionLeavesNoTrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context())
		clean := func(when string) {
			t.Helper()
			synctest.Wait()
			a := n.Status().Applications["app"]
			d := a.Deployments["A"]
			if d.LastExit != nil || (d.Message != "") != (when == "the one before") || len(d.Replicas) != 1 || d.Replicas[0].Restarts != 0 || d.Replicas[0].LastExit != nil {
				t.Errorf("%s: %+v", when, d)
			}
		}
		good, _ := ward("A")
		if err := n.Deploy(t.Context(), good); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			bad, sick := ward("A")
			sick["A"].Store(true)
			if err := n.Deploy(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "stays at revision 1: ") {
				t.Fatalf("%v", err)
			}
			clean("the one before")
		}
		next, _ := ward("A")
		if err := n.Deploy(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		clean("the next one")
		if m := n.Status().Applications["app"].Message; m != "" {
			t.Errorf("the message is %q", m)
		}
	})
}
