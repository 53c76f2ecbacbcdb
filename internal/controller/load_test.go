package controller

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
)

// load has clients that call the application of a test without a pause, and the numbers of the calls that have begun in a replica.
type load struct {
	clients sync.WaitGroup
	over    chan struct{}
	last    atomic.Int64
	began   sync.Map
	done    atomic.Int64
}

// version is a version of the application of [rolled] whose calls take 10 ms, two at a time in a replica, and are counted.
func (l *load) version(version string, broken bool) deploy.App {
	def := rolled(4, version, 0, func(o *spec.Options) { o.MaxOngoingRequests = 2 })
	def.Classes["A"].Methods["Work"] = &instance.Method{
		Name: "Work", Shape: instance.Unary, In: reflect.TypeFor[int](), Out: reflect.TypeFor[int](),
		Invoke: func(_ context.Context, _, in any) (any, error) {
			l.began.Store(int64(in.(int)), true)
			time.Sleep(10 * time.Millisecond) // fake time
			return 1, nil
		},
	}
	if broken {
		def.Classes["A"].Construct = func(context.Context) (any, error) { return nil, errors.New("a bad version") }
	}
	return def
}

// begin starts a number of clients. A call may fail only if it had begun.
func (l *load) begin(t *testing.T, n *testNode, clients int) {
	l.over = make(chan struct{})
	for range clients {
		l.clients.Go(func() {
			for {
				select {
				case <-l.over:
					return
				default:
				}
				id := l.last.Add(1)
				c := &call.Call{Want: call.Native}
				c.Info.Place = &call.Place{App: "app", Deployment: "A", Method: "Work"}
				c.SetOne(call.Slot{Payload: call.Payload{Codec: call.Native, Value: int(id)}})
				w := call.NewWaiter()
				_, err := w.Wait(context.Background(), n.Deployment("app", "A").Submit(nil, c, w))
				if _, began := l.began.Load(id); err != nil && !began {
					t.Errorf("call %d had not begun, and has failed: %v", id, err)
				}
				l.done.Add(1)
			}
		})
	}
}

func (l *load) end() {
	close(l.over)
	l.clients.Wait()
}

// TestChangesUnderLoad: 40 clients call four replicas of two slots while the application changes in all ways, and a replica ends. No call is lost that had not begun.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(Settings{})
		n.closeAfter(t)
		l := &load{}
		n.deploy(t, l.version("1", false))
		l.begin(t, n, 40)
		defer l.end()
		step := func(what string, want string, do func() error) {
			t.Helper()
			before := l.done.Load()
			if err := do(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			time.Sleep(30 * time.Second) // fake time
			wantOf(t, what, n.versions(), want)
			if l.done.Load() == before {
				t.Errorf("%s: no call has ended", what)
			}
		}
		step("rollout", "map[2:4]", func() error { return n.Deploy(t.Context(), l.version("2", false)) })
		step("a bad rollout", "map[2:4]", func() error {
			if err := n.Deploy(t.Context(), l.version("3", true)); err == nil {
				return errors.New("it was taken")
			}
			return nil
		})
		step("rollback", "map[4:4]", func() error { return n.Deploy(t.Context(), l.version("1", false)) })
		step("scale down", "map[4:2]", func() error { return n.Scale(t.Context(), "app", "A", 2, "ann", "") })
		step("restart", "map[4:2]", func() error { return n.Restart("app", "A", "", "ann") })
		step("scale up", "map[4:6]", func() error { return n.Scale(t.Context(), "app", "A", 6, "ann", "") })
		step("the end of a replica", "map[4:6]", func() error {
			r := n.running("app", "A")[0]
			kill(r, host.Ending{Exit: helvetype.Exit{Replica: r.ID, Reason: "killed"}, First: true, FirstOfDeployment: true})
			return nil
		})
		step("all at once", "map[5:3]", func() error {
			var all sync.WaitGroup
			all.Go(func() { n.Restart("app", "", "", "ann") })                      //nolint:errcheck // refused while the rollout goes
			all.Go(func() { n.Scale(context.Background(), "app", "A", 3, "", "") }) //nolint:errcheck // the next one counts
			err := n.Deploy(t.Context(), l.version("2", false))
			all.Wait()
			return errors.Join(err, n.Scale(t.Context(), "app", "A", 3, "ann", ""))
		})
	})
}
