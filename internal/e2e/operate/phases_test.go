package operate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/helve-serve/helve"
)

// The variables that choose longer runs.
const (
	seedsEnv = "HELVE_FAULTS_SEEDS" // a number: all moments of every operation, so often (make faults SEEDS=n)
	seedEnv  = "HELVE_FAULTS_SEED"  // one seed again
)

// moments is how many events of an operation are the moment of a kill in a long run: a rollout of two replicas has fewer.
const moments = 10

// seeds are the seeds of a run, and whether it is a long one.
func seeds(t *testing.T) (all []uint64, long bool) {
	t.Helper()
	number := func(name string) (uint64, bool) {
		v, ok := os.LookupEnv(name)
		if !ok {
			return 0, false
		}
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n, true
	}
	if one, ok := number(seedEnv); ok {
		return []uint64{one}, true
	}
	n, ok := number(seedsEnv)
	if !ok {
		return []uint64{1}, false
	}
	for range n {
		all = append(all, rand.Uint64N(1e9))
	}
	return all, true
}

// testKilled kills the node at each event of a rollout, of a rollback and of a delete. The next node has the application in one version, with all its
// replicas, or, after a delete, not at all. Clients lose at most the request that was under way.
func testKilled(t *testing.T, binary string) {
	all, long := seeds(t)
	for _, seed := range all {
		for _, operation := range []struct {
			name string
			do   func(*phases, int)
		}{{"rollout", (*phases).rollout}, {"rollback", (*phases).rollback}, {"delete", (*phases).delete}} {
			at := []int{1, 3 + rand.New(rand.NewPCG(seed, 0)).IntN(4)}
			if long {
				at = nil
				for i := range moments {
					at = append(at, i)
				}
			}
			for _, moment := range at {
				t.Run(fmt.Sprintf("seed=%d/%s at event %d", seed, operation.name, moment), func(t *testing.T) {
					t.Parallel()
					// A node for each kill: a keeper whose node ends again and again waits before it starts the next one.
					p := &phases{node: start(t, binary), random: rand.New(rand.NewPCG(seed, uint64(moment)))}
					if operation.do(p, moment); t.Failed() {
						t.Log(p.report())
					}
				})
			}
		}
	}
}

// phases has the node of one kill.
type phases struct {
	*node
	random  *rand.Rand
	version int
}

func (p *phases) next() string {
	p.version++
	return fmt.Sprint("v", p.version)
}

// base deploys the application in a new version, and waits until it serves.
func (p *phases) base() string {
	p.t.Helper()
	version := p.next()
	sys := p.operator()
	defer sys.Close(context.Background())
	if err := sys.Deploy(p.t.Context(), form("shop", version)); err != nil {
		p.t.Fatalf("%v\n%s", err, p.report())
	}
	p.await("the application to be whole", func() bool { a, _, _ := p.application("shop"); return settled(a) })
	return version
}

// disturb kills the node when an operation has had a number of events, or has ended, and waits for the next node.
func (p *phases) disturb(moment int, do func(context.Context, *helve.System) error) {
	p.t.Helper()
	sys := p.operator()
	defer sys.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	events, ended := p.events(ctx, "shop"), make(chan struct{})
	go func() {
		defer close(ended)
		do(ctx, sys) //nolint:errcheck // its node is killed
	}()
	for range moment {
		select {
		case <-events:
			continue
		case <-ended:
		}
		break
	}
	time.Sleep(time.Duration(p.random.IntN(2000)) * time.Microsecond) // the moment between two events
	p.kill()
	cancel()
	<-ended
}

// change disturbs an operation that leads from one version to another, and holds that the application is whole in one of them after it.
func (p *phases) change(moment int, from, to string, do func(context.Context, *helve.System) error) {
	p.t.Helper()
	const number = 4
	load := p.load("shop", number)
	p.disturb(moment, do)
	p.await("the application to be whole in one version", func() bool {
		a, _, _ := p.application("shop")
		return settled(a)
	})
	is := map[string]int{}
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	for range 10 {
		text, err := ask(client, "http://"+p.http+"/shop")
		if err != nil {
			p.t.Errorf("a request after the kill: %v", err)
			return
		}
		is[text]++
	}
	load.end()
	if is[from] != 10 && is[to] != 10 {
		p.t.Errorf("the answers are of the versions %v, want %s or %s only", is, from, to)
	}
	for text := range load.answers {
		if text != from && text != to {
			p.t.Errorf("clients had an answer of %q", text)
		}
	}
	if len(load.failed) > number {
		p.t.Errorf("%d clients have lost %d requests: %q", number, len(load.failed), load.failed)
	}
	if load.answers[from]+load.answers[to] == 0 {
		p.t.Errorf("no client had an answer: %q", load.failed)
	}
}

func (p *phases) rollout(moment int) {
	p.t.Helper()
	from, to := p.base(), p.next()
	p.change(moment, from, to, func(ctx context.Context, s *helve.System) error { return s.Deploy(ctx, form("shop", to)) })
}

func (p *phases) rollback(moment int) {
	p.t.Helper()
	to, from := p.base(), p.base()
	p.change(moment, from, to, func(ctx context.Context, s *helve.System) error { return s.Rollback(ctx, "shop", 0) })
}

// delete holds that the application is gone, or is whole: then the kill came before the delete was stored.
func (p *phases) delete(moment int) {
	p.t.Helper()
	p.base()
	p.disturb(moment, func(ctx context.Context, s *helve.System) error { return s.Delete(ctx, "shop") })
	p.await("the application to be gone, or whole", func() bool {
		a, ok, known := p.application("shop")
		return known && (!ok || settled(a))
	})
}
