package controller

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/autoscale"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/planner"
	"github.com/helve-serve/helve/internal/spec"
)

// healthyApp has a deployment D of replicas that start at once.
func healthyApp(o spec.Options) deploy.App {
	return deploy.App{
		Graph: graphOf(spec.Deployment{Name: "D", Language: "go", Options: o}),
		Classes: map[string]*instance.Class{"D": {
			App: "app", Deployment: "D", Methods: instance.Methods(reflect.TypeFor[nothing]()),
			Construct: func(context.Context) (any, error) { return nothing{}, nil },
		}},
		Replace: true,
	}
}

// TestCrashLoop: replicas that die as soon as they are ready are replaced at once, then after 1, 2, 4 ... 64 s; a replica that
// ran for long starts over. The next replica in its place knows the exit.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context()) //nolint:errcheck // nothing runs
		if err := n.Deploy(t.Context(), healthyApp(spec.Options{})); err != nil {
			t.Fatal(err)
		}
		running := func() *fleet.Replica {
			for {
				synctest.Wait()
				if running := n.running("app", "D"); len(running) > 0 {
					return running[0]
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		die := func(i int) time.Duration {
			r := running()
			start := time.Now()
			kill(r, host.Ending{Exit: helvetype.Exit{Replica: r.ID, Reason: fmt.Sprint("exit ", i), Code: i}, First: true, FirstOfDeployment: true})
			running()
			return time.Since(start)
		}
		var took []time.Duration
		for i := range 10 {
			took = append(took, die(i))
		}
		if got := fmt.Sprint(took); got != "[0s 1s 2s 4s 8s 16s 32s 1m4s 1m4s 1m4s]" {
			t.Error(got)
		}
		d := n.Status().Applications["app"].Deployments["D"]
		if r := d.Replicas[0]; r.Restarts != 10 || r.LastExit.Code != 9 || d.LastExit.Reason != "exit 9" || d.Status != helvetype.DeploymentHealthy {
			t.Errorf("%+v", d)
		}
		time.Sleep(planner.HealthyTime + time.Second)
		if took := die(10); took != 0 {
			t.Errorf("one that ran for long is replaced after %s", took)
		}
	})
}

// TestNumbersOfGoneReplicas: the numbers of a replica that is gone are forgotten, also one that comes late.
func TestNumbersOfGoneReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		defer n.Close(t.Context()) //nolint:errcheck // nothing runs
		if err := n.Deploy(t.Context(), healthyApp(spec.Options{})); err != nil {
			t.Fatal(err)
		}
		r := n.running("app", "D")[0]
		known := func() int {
			numbers, _ := r.Dep.Numbers.View(time.Now(), time.Hour, autoscale.Mean, []string{r.ID})
			return len(numbers)
		}
		r.NoteNumbers(map[string]float64{"tokens": 7}, nil)
		if known() != 1 {
			t.Error("its numbers are not there")
		}
		kill(r, host.Ending{Exit: helvetype.Exit{Replica: r.ID, Code: 1}, First: true, FirstOfDeployment: true})
		synctest.Wait()
		if known() != 0 {
			t.Error("its numbers are there still")
		}
		if r.NoteNumbers(map[string]float64{"tokens": 8}, nil); known() != 0 {
			t.Error("a number that comes late stays")
		}
	})
}

// TestTheLastLinesAreLoggedOnce: the end of a worker that several replicas were in is logged for each, with its last lines for one; it is
// no error if the application goes anyway.
func TestTheLastLinesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	for _, closing := range []bool{false, true} {
		t.Run(fmt.Sprint("closing=", closing), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := &lockedBuffer{}
				n := newTestNode(Settings{Logger: slog.New(slog.NewTextHandler(log, nil))})
				n.closeAfter(t)
				if err := n.Deploy(t.Context(), healthyApp(spec.Options{NumReplicas: 2})); err != nil {
					t.Fatal(err)
				}
				running := n.running("app", "D")
				n.Mu.Lock()
				n.Shut = closing
				n.Mu.Unlock()
				for i, r := range running {
					kill(r, host.Ending{First: i == 0, Exit: helvetype.Exit{Replica: r.ID, Reason: "exit status 3", Code: 3, Lines: []string{"last words"}}})
				}
				synctest.Wait()
				n.Mu.Lock()
				n.Shut = false // for the end of the test
				n.Mu.Unlock()
				text := log.String()
				if strings.Count(text, "last words") != 1 || strings.Count(text, "exit status 3") != 2 {
					t.Error(text)
				}
				if n := strings.Count(text, "level=ERROR"); n != 2 && !closing || n != 0 && closing {
					t.Errorf("%d errors\n%s", n, text)
				}
			})
		})
	}
}

// lockedBuffer is a buffer that several goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
