package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
)

// shelf has the state of the replicas of [Stocked], by the number of each.
type shelf struct {
	mu    sync.Mutex
	made  int
	empty map[int]error // why a replica is not ready
	hung  map[int]chan struct{}
	ran   []int
}

func (s *shelf) set(change func(*shelf)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// Stocked is a replica with a readiness check.
type Stocked struct {
	of *shelf
	n  int
}

func (r *Stocked) CheckReady(context.Context) error {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	return r.of.empty[r.n]
}

// Sell gives the number of the replica.
func (r *Stocked) Sell(ctx context.Context, _ int) (int, error) {
	r.of.mu.Lock()
	r.of.ran = append(r.of.ran, r.n)
	hang := r.of.hung[r.n]
	r.of.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return r.n, nil
}

// stocked runs f with two replicas on each kind of host. The time is false time.
func stocked(t *testing.T, o helve.Options, f func(t *testing.T, sys *helve.System, of *shelf, sell func(time.Duration) (int, error))) {
	t.Helper()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				of := &shelf{empty: map[int]error{}, hung: map[int]chan struct{}{}}
				sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
					app := helve.NewApp("shop")
					h := helve.Deploy(app, "Stocked", func(context.Context) (*Stocked, error) {
						of.mu.Lock()
						defer of.mu.Unlock()
						of.made++
						return &Stocked{of, of.made}, nil
					}, o)
					app.Ingress(helve.MethodOf(h, (*Stocked).Sell))
					return app, nil
				})
				h, err := helve.HandleOf[*Stocked](sys, "shop", "Stocked")
				if err != nil {
					t.Fatal(err)
				}
				method := helve.MethodOf(h, (*Stocked).Sell)
				f(t, sys, of, func(limit time.Duration) (int, error) {
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					defer cancel()
					return method.Remote(ctx, 0).Result(ctx)
				})
			})
		})
	}
}

// deployment is the status of the deployment, and the reasons of the events of its replicas.
func deployment(sys *helve.System) helvetype.DeploymentStatus {
	return sys.Status().Applications["shop"].Deployments["Stocked"]
}

// TestReadiness: a replica whose readiness check fails gets no calls, keeps the calls that it executes, and gets calls again when the check passes. It is not
// started again. The last replica gets calls until the check of another passes.
func TestReadiness(t *testing.T) {
	t.Parallel()
	o := helve.Options{NumReplicas: new(2), ReadinessPeriod: time.Second, MaxOngoingRequests: new(2)}
	stocked(t, o, func(t *testing.T, sys *helve.System, of *shelf, sell func(time.Duration) (int, error)) {
		hang := make(chan struct{})
		of.set(func(s *shelf) { s.hung[1], s.hung[2] = hang, hang })
		under := make(chan error, 4)
		for range 4 {
			go func() { _, err := sell(time.Hour); under <- err }()
		}
		synctest.Wait()
		of.set(func(s *shelf) { s.empty[1] = errors.New("the shelf is empty"); clear(s.hung) })
		time.Sleep(2 * time.Second)
		d := deployment(sys)
		if i := slices.IndexFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return !r.Ready }); d.Status != "UNHEALTHY" || d.Trigger != "HEALTH_CHECK_FAILED" || d.Ready != 1 ||
			i < 0 || d.Replicas[i].State != "RUNNING" || d.Replicas[i].NotReady == nil || d.Replicas[i].NotReady.Reason == "" || d.Calls.Running != 4 {
			t.Fatalf("with one that is not ready: %+v", d)
		}
		close(hang)
		for range 4 {
			if err := <-under; err != nil {
				t.Errorf("a call that the replica executed: %v", err)
			}
		}
		for range 20 {
			if n, err := sell(time.Minute); n != 2 || err != nil {
				t.Fatalf("replica %d, %v", n, err)
			}
		}
		of.set(func(s *shelf) { s.empty[2] = errors.New("sold out") })
		time.Sleep(2 * time.Second)
		d = deployment(sys)
		kept := slices.IndexFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.Ready })
		if d.Ready != 1 || d.Status != "UNHEALTHY" || !strings.Contains(d.Message, "kept, the last replica") || kept < 0 || d.Replicas[kept].NotReady == nil || d.Replicas[kept].NotReady.Kept != "the last replica" {
			t.Fatalf("without a replica whose check passes: %+v", d)
		}
		for range 20 {
			if n, err := sell(time.Minute); n != 2 || err != nil {
				t.Fatalf("the last replica: %d, %v", n, err)
			}
		}
		of.set(func(s *shelf) { delete(s.empty, 1) })
		time.Sleep(2 * time.Second)
		for range 20 {
			if n, err := sell(time.Minute); n != 1 || err != nil {
				t.Fatalf("when another one is ready: %d, %v", n, err)
			}
		}
		of.set(func(s *shelf) { delete(s.empty, 2) })
		time.Sleep(2 * time.Second)
		if d := deployment(sys); d.Status != "HEALTHY" || d.Ready != 2 || of.made != 2 || d.Replicas[0].NotReady != nil || !d.Replicas[0].Ready {
			t.Errorf("at the end, with %d instances: %+v", of.made, d)
		}
	})
}

// TestFirstReadiness: an application does not run before the readiness check of its replica has passed for the first time.
func TestFirstReadiness(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				of := &shelf{empty: map[int]error{1: errors.New("the shelf is empty")}}
				go func() {
					time.Sleep(5 * time.Second)
					of.set(func(s *shelf) { clear(s.empty) })
				}()
				begun := time.Now()
				helvetest.Start(t, r.Config, func() (*helve.App, error) {
					app := helve.NewApp("shop")
					h := helve.Deploy(app, "Stocked", func(context.Context) (*Stocked, error) { return &Stocked{of, 1}, nil }, helve.Options{ReadinessPeriod: time.Second})
					app.Ingress(helve.MethodOf(h, (*Stocked).Sell))
					return app, nil
				})
				if took := time.Since(begun); took < 5*time.Second {
					t.Errorf("the application runs after %s", took)
				}
			})
		})
	}
}

// TestEjection: a replica whose calls pass their deadlines, while none ends well, is ejected, gets calls again after a probe, and is ejected for longer if its
// calls hang again. Errors of the user's code do not count, and the last replica stays.
func TestEjection(t *testing.T) {
	t.Parallel()
	o := helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(100)}
	stocked(t, o, func(t *testing.T, sys *helve.System, of *shelf, sell func(time.Duration) (int, error)) {
		never := make(chan struct{})
		of.set(func(s *shelf) { s.hung[1] = never })
		failed := 0
		for deployment(sys).Ready == 2 {
			if _, err := sell(100 * time.Millisecond); err != nil {
				failed++
			}
			synctest.Wait()
			if failed > 5 {
				t.Fatalf("%d calls have failed: %+v", failed, deployment(sys))
			}
		}
		d := deployment(sys)
		i := slices.IndexFunc(d.Replicas, func(r helvetype.ReplicaStatus) bool { return r.Ejected != nil })
		if failed != 5 || i < 0 || d.Replicas[i].Ready || d.Status != "UNHEALTHY" {
			t.Fatalf("after %d failures: %+v", failed, d)
		}
		begun := time.Now()
		for range 20 {
			if n, err := sell(100 * time.Millisecond); n != 2 || err != nil {
				t.Fatalf("replica %d, %v", n, err)
			}
		}
		for deployment(sys).Ready != 2 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(begun); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("it has returned after %s", took)
		}
		of.set(func(s *shelf) { s.hung[2] = never }) // both hang: one is ejected, and the other is the last
		for range 40 {
			sell(100 * time.Millisecond) //nolint:errcheck // most fail
		}
		synctest.Wait()
		if d := deployment(sys); d.Ready != 1 || of.made != 2 {
			t.Errorf("with two that hang: %+v", d)
		}
		of.set(func(s *shelf) { clear(s.hung) })
		time.Sleep(time.Minute)
		if d := deployment(sys); d.Ready != 2 || d.Status != "HEALTHY" || of.made != 2 {
			t.Errorf("at the end, with %d instances: %+v", of.made, d)
		}
	})
}
