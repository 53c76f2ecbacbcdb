package operate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/rest"
)

const (
	soakEnv     = "HELVE_SOAK" // how long the soak takes (make soak SOAK=1h); it is two seconds without
	soakClients = 3            // of each application
)

// testSoak changes two applications under load for a time: deploys, roll-backs, other numbers of replicas, and kill -9 of the node and of workers. After every
// operation its application is whole in one version; after an operation that no kill has disturbed that is the version of the operation. A kill costs each client
// at most the request that was under way.
func testSoak(t *testing.T, binary string) {
	length := 2 * time.Second
	if v, ok := os.LookupEnv(soakEnv); ok {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(1)
	if all, long := seeds(t); long {
		seed = all[0]
	}
	s := &soak{node: start(t, binary)}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var apps sync.WaitGroup
	for i, app := range []string{"shop", "chat"} {
		r := &applicant{soak: s, app: app, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		r.base()
		load := s.load(app, soakClients)
		apps.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				r.operate()
			}
			select { // on a busy machine the clients may have had no answer yet
			case <-load.first:
			case <-time.After(patience):
			}
			load.end()
			s.mu.Lock()
			defer s.mu.Unlock()
			answers := 0
			for _, n := range load.answers {
				answers += n
			}
			t.Logf("seed %d, %s: %v; %d answers, %d lost with %d kills", seed, app, r.done, answers, len(load.failed), s.kills)
			if answers == 0 || len(load.failed) > soakClients*s.kills {
				t.Errorf("%s: %d answers, and %d lost with %d kills: %.40q\n%s", app, answers, len(load.failed), s.kills, load.failed, s.report())
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, 2))
	for pause := length / 2; ; pause = max(10*time.Second, length/20) { // a keeper whose node ends more often waits before it starts the next one
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		if random.IntN(3) > 0 {
			s.killed(func() { s.kill() })
		} else if worker := s.worker(); worker != 0 {
			s.killed(func() { syscall.Kill(worker, syscall.SIGKILL) })
		}
	}
	apps.Wait()
}

// soak is a node that is disturbed.
type soak struct {
	*node
	mu    sync.Mutex
	kills int // begun so far
	marks int // begins and ends of kills so far
}

// killed counts a kill. Its end counts for the operations too: for example, an operation that begins between the count and the signal is disturbed.
func (s *soak) killed(kill func()) {
	s.mu.Lock()
	s.kills++
	s.marks++
	s.mu.Unlock()
	kill()
	s.mu.Lock()
	s.marks++
	s.mu.Unlock()
}

// worker is the process of a replica; 0 if there is none now.
func (s *soak) worker() int {
	a, _, _ := s.application("chat")
	for _, r := range a.Deployments["Page"].Replicas {
		if r.State == helvetype.ReplicaRunning && r.PID != nil {
			return *r.PID
		}
	}
	return 0
}

// applicant is the operator of one application.
type applicant struct {
	*soak
	app     string
	random  *rand.Rand
	number  int    // of versions so far
	version string // that should run
	before  string // that a roll-back leads to; "" if it is not known
	done    struct{ deploys, rollbacks, scales, failed int }
}

// base deploys the application for the first time.
func (r *applicant) base() {
	r.t.Helper()
	sys := r.operator()
	defer sys.Close(context.Background())
	r.version = "v0"
	if err := sys.Deploy(r.t.Context(), form(r.app, r.version)); err != nil {
		r.t.Fatalf("%v\n%s", err, r.report())
	}
}

// operate does one operation, and holds that the application is whole after it.
func (r *applicant) operate() {
	sys := r.operator()
	defer sys.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.mu.Lock()
	marks := r.marks
	r.mu.Unlock()
	want, before := r.version, r.before
	var err error
	switch k := r.random.IntN(4); {
	case k < 2:
		r.number++
		want, before = fmt.Sprint("v", r.number), r.version
		err = sys.Deploy(ctx, form(r.app, want))
		r.done.deploys++
	case k == 2 && r.before != "":
		want, before = r.before, r.version
		err = sys.Rollback(ctx, r.app, 0)
		r.done.rollbacks++
	default:
		err = sys.Scale(ctx, r.app, "Page", 1+r.random.IntN(3))
		r.done.scales++
	}
	r.await(r.app+" to be whole", func() bool { a, _, _ := r.application(r.app); return settled(a) && !r.starting() })
	is := r.answer()
	r.mu.Lock()
	disturbed := r.marks != marks
	r.mu.Unlock()
	if err != nil {
		r.done.failed++
	}
	switch {
	case err == nil && is == want:
		r.version, r.before = want, before
	case !disturbed:
		r.t.Errorf("%s is at %q after an operation that led to %q: %v\n%s", r.app, is, want, err, r.course())
	case is != want && is != r.version:
		r.t.Errorf("%s is at %q after a kill during an operation from %q to %q: %v\n%s", r.app, is, r.version, want, err, r.course())
	default: // the test does not know the revision before
		r.version, r.before = is, ""
	}
}

// starting says whether a deploy of the application is under way in the store, or whether that is not known. For example, a node was killed in a deploy: the next one has taken over the replicas of the
// revision before, which all run, and is about to go on with the deploy.
func (r *applicant) starting() bool {
	h, err := r.admin.History(context.Background(), r.app)
	return err != nil || slices.ContainsFunc(h.Revisions, func(e helvetype.RevisionEntry) bool { return e.State == "starting" })
}

// course has the newest events and revisions of the application, for a failure.
func (r *applicant) course() string {
	var b strings.Builder
	var list rest.EventList
	err := r.admin.Get(context.Background(), "/events", url.Values{"app": {r.app}}, &list)
	fmt.Fprintf(&b, "events: %v\n", err)
	for _, e := range list.Events[max(0, len(list.Events)-80):] {
		if e.Object.Kind != helvetype.KindReplica {
			fmt.Fprintf(&b, "  %s #%d %s %s -> %s %s: %s (because of #%d)\n", e.Time.Format("05.000"), e.ID, e.Object.Kind, e.From, e.To, e.Reason, e.Message, e.Cause)
		}
	}
	h, err := r.admin.History(context.Background(), r.app)
	fmt.Fprintf(&b, "revisions: %v\n", err)
	for _, e := range h.Revisions {
		fmt.Fprintf(&b, "  %+v\n", e)
	}
	said := r.said.Text()
	return b.String() + said[max(0, len(said)-4000):]
}

// answer is the version of all replicas. A kill may come between two requests.
func (r *applicant) answer() (version string) {
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	for got := 0; got < 6; {
		text, err := ask(client, "http://"+r.http+"/"+r.app)
		if err != nil {
			r.mu.Lock()
			kills := r.kills
			r.mu.Unlock()
			if kills == 0 {
				r.t.Errorf("%s: %v", r.app, err)
				return version
			}
			continue
		}
		if got > 0 && text != version {
			r.t.Errorf("%s answers with %q and %q at once", r.app, version, text)
		}
		version = text
		got++
	}
	return version
}
