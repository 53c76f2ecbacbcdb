package controller

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/telemetry"
)

// TestNumbers: the numbers of a look that reads the replicas with calls alone are the numbers of [Fleet.Metrics], while replicas come and go and have calls.
func TestNumbers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 9))
		n := newTestNode(Settings{})
		n.closeAfter(t)
		n.deploy(t, rolled(3, "1", 20, nil))
		var numbers fleet.Numbers
		text := func(s telemetry.Snapshot) (all string) {
			for _, a := range s.Applications {
				for _, d := range a.Deployments {
					replicas := map[string]string{}
					for _, r := range d.Replicas {
						if r.State != "" {
							replicas[r.ID] = fmt.Sprint(r.State, r.Running, r.Calls)
						}
					}
					all += fmt.Sprintln(a.Name, a.Ingress, d.Name, d.Wanted, d.Ready, d.Queued, d.Rejected, d.Calls, d.Callers, d.Waits, replicas)
				}
			}
			return all
		}
		for i := range 200 {
			switch rng.IntN(6) {
			case 0:
				n.work(t, 1+rng.IntN(5))
			case 1:
				if err := n.Scale(t.Context(), "app", "A", 1+rng.IntN(5), "", ""); err != nil {
					t.Fatal(err)
				}
			case 2:
				go n.Deploy(t.Context(), rolled(1+rng.IntN(4), fmt.Sprint(i), 20, nil)) //nolint:errcheck // another one may come first
			}
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond) // fake time
			synctest.Wait()
			s, processes := numbers.Look(n.Fleet)
			if got, want := text(s), text(n.Metrics()); got != want {
				t.Fatalf("look %d:\n%s\nwant\n%s", i, got, want)
			}
			running := n.running("app", "A")
			for _, r := range running {
				if processes[r.ID] != os.Getpid() {
					t.Fatalf("look %d: %v of %d replicas", i, processes, len(running))
				}
			}
		}
		time.Sleep(time.Minute) // fake time
	})
}
