package updates

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/usage"
)

// page is a reader that keeps objects and figures by the rules of [helvetype.Update].
type page struct {
	node, problems string
	figures        map[string]*float64
	objects        map[string]string // by kind and name
	numbers        map[string]*float64
}

func (p *page) apply(t *testing.T, b []byte) (u helvetype.Update) {
	t.Helper()
	if err := json.Unmarshal(b, &u); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if u.Whole {
		*p = page{objects: map[string]string{}, numbers: map[string]*float64{}}
	}
	text := func(v any) string { return string(encode(v)) }
	if u.Node != nil {
		p.node = text(u.Node)
	}
	if u.Problems != nil {
		p.problems = text(u.Problems)
	}
	for _, a := range u.Applications {
		p.objects["application "+a.Name] = text(a)
	}
	for _, d := range u.Deployments {
		p.objects["deployment "+d.Name] = text(d)
	}
	for _, r := range u.Replicas {
		p.objects["replica "+r.ID] = text(r)
	}
	if u.Edges != nil {
		for name := range p.objects {
			if strings.HasPrefix(name, "edge ") {
				delete(p.objects, name)
			}
		}
		for _, e := range u.Edges {
			p.objects["edge "+e.ID] = text(e)
		}
	}
	if u.Figures.Node != nil {
		p.figures = u.Figures.Node
	}
	for kind, blocks := range map[string][]helvetype.Figures{"application": u.Figures.Applications, "deployment": u.Figures.Deployments, "replica": u.Figures.Replicas, "edge": u.Figures.Edges} {
		for _, f := range blocks {
			for column, all := range f.Columns {
				if len(all) != len(f.Names) {
					t.Errorf("%s %s: %d numbers of %d objects", kind, column, len(all), len(f.Names))
				}
				for i, v := range all {
					p.numbers[kind+" "+f.Names[i]+" "+column] = v
				}
			}
		}
	}
	for _, g := range u.Gone {
		name := g.Kind + " "
		switch g.Kind {
		case helvetype.KindApplication:
			name += g.App
		case helvetype.KindDeployment:
			name += g.Deployment
		default:
			name += g.Replica
			var r helvetype.ReplicaUpdate
			if err := json.Unmarshal([]byte(p.objects[name]), &r); err != nil || r.App != g.App || r.Deployment != g.Deployment {
				t.Errorf("%+v is gone, and was %+v: %v", g, r, err)
			}
		}
		if _, had := p.objects[name]; !had {
			t.Errorf("%s is gone, and was never there", name)
		}
		delete(p.objects, name)
	}
	for name := range p.numbers { // of objects that are gone
		kind, rest, _ := strings.Cut(name, " ")
		object, _, _ := strings.Cut(rest, " ")
		if _, there := p.objects[kind+" "+object]; !there {
			delete(p.numbers, name)
		}
	}
	return u
}

// rates are the same for all, but for the replicas without any.
type rates struct {
	rate usage.Rate
	late float64
}

func (r rates) Recent(string, string) (usage.Rate, bool) { return r.rate, !math.IsNaN(r.rate.Calls) }
func (r rates) RecentAt(id string) (usage.Rate, float64, bool) {
	return r.rate, r.late, !strings.HasSuffix(id, "0")
}

func (r rates) RecentFrom(_, to string, _ telemetry.Caller) (usage.Rate, float64, bool) {
	return r.rate, r.late, to != "Store"
}

// random is a node of which any part may be there or not.
func random(r *rand.Rand) *Facts {
	f := &Facts{
		At: time.Unix(r.Int64N(1e9), 0), Node: helvetype.NodeUpdate{ID: "local", Draining: r.IntN(2) == 0}, Figures: map[string]float64{helvetype.ColumnRate: float64(r.IntN(2)), helvetype.ColumnCPU: math.NaN()},
		Status: helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{}}, Deployed: map[string]Deployed{}, Hidden: "_hidden.",
		Rates:    rates{usage.Rate{Calls: float64(r.IntN(3)) / 3}, float64(r.IntN(2))},
		Problems: helvetype.Overview{Sentence: fmt.Sprint(r.IntN(2))},
	}
	for _, app := range []string{"shop", "chat", "_hidden.task"} {
		if r.IntN(4) == 0 {
			continue
		}
		a := helvetype.ApplicationStatus{Message: fmt.Sprint(r.IntN(2)), RoutePrefix: "/", Deployments: map[string]helvetype.DeploymentStatus{}}
		k := telemetry.Application{Name: app}
		for _, name := range []string{"Gateway", "Ranker"} {
			if r.IntN(4) == 0 {
				continue
			}
			d, c := helvetype.DeploymentStatus{Wanted: r.IntN(2), Calls: helvetype.Calls{Queued: r.IntN(2)}}, telemetry.Deployment{Name: name}
			if r.IntN(2) == 0 {
				c.Callers = map[telemetry.Caller]telemetry.CallerCounts{{Kind: telemetry.FromDriver}: {}, {Kind: telemetry.FromDeployment, App: "chat", Deployment: "Client"}: {}}
			}
			if name == "Gateway" {
				d.Uses = []string{"Ranker", "Store"}[:r.IntN(3)]
			}
			for i := range r.IntN(5) {
				id := fmt.Sprintf("%s#%s-%d", name, app, i)
				d.Replicas = append(d.Replicas, helvetype.ReplicaStatus{ID: id, State: helvetype.ReplicaRunning, Restarts: r.IntN(2), Memory: uint64(r.IntN(2)), LastExit: &helvetype.Exit{Lines: []string{"never sent"}}})
				c.Replicas = append(c.Replicas, telemetry.Replica{ID: id, Running: r.IntN(3)})
			}
			a.Deployments[name] = d
			k.Deployments = append(k.Deployments, c)
		}
		f.Status.Applications[app], f.Deployed[app] = a, Deployed{1, "Gateway"}
		f.Counts.Applications = append(f.Counts.Applications, k)
	}
	return f
}

// TestItems: after each item a reader has the same as a reader that begins then, for all changes between two items; an item that is empty changes nothing; figures that were held back come.
func TestItems(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, of := range []View{{}, {App: "shop"}, {App: "shop", Deployment: "Ranker"}, {App: "shop", Deployment: "Ranker", Replica: "Ranker#shop-1"}, {App: "no", Deployment: "such", Replica: "thing"}, {AllReplicas: true}} {
		var m memory
		var p page
		for i := range 300 {
			f := random(r)
			if i%3 == 2 { // again
				f = random(rand.New(rand.NewPCG(7, 7)))
			}
			withFigures := r.IntN(3) > 0
			out := m.next(newState(f), of, withFigures)
			b := encode(out)
			if strings.Contains(string(b), "never sent") || strings.Contains(string(b), "_hidden") {
				t.Fatalf("%s", b)
			}
			p.apply(t, b)
			if again := m.next(newState(f), of, withFigures); !again.empty() {
				t.Fatalf("%v: nothing has changed, and the item is %s", of, encode(again))
			}
			if !withFigures && !out.Whole {
				p.apply(t, encode(m.next(newState(f), of, true)))
			}
			var fresh memory
			var want page
			want.apply(t, encode(fresh.next(newState(f), of, false)))
			if diff := cmp.Diff(want, p, cmp.AllowUnexported(page{})); diff != "" {
				t.Fatalf("%v, item %d: %s", of, i, diff)
			}
		}
	}
}

// TestServing: the replicas of an old revision count among the ready ones while they take calls.
func TestServing(t *testing.T) {
	t.Parallel()
	d := helvetype.DeploymentStatus{Wanted: 3, Ready: 1, Replicas: []helvetype.ReplicaStatus{
		{ID: "Gateway#0", State: helvetype.ReplicaRunning, Revision: 1, Ready: true}, {ID: "Gateway#1", State: helvetype.ReplicaRunning, Revision: 1, Ready: true},
		{ID: "Gateway#2", State: helvetype.ReplicaRunning, Revision: 2, Ready: true}, {ID: "Gateway#3", State: helvetype.ReplicaStarting, Revision: 2},
	}}
	f := &Facts{
		Status:   helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {RoutePrefix: "/", Deployments: map[string]helvetype.DeploymentStatus{"Gateway": d}}}},
		Deployed: map[string]Deployed{"shop": {2, "Gateway"}}, Rates: rates{},
	}
	var m memory
	var p page
	p.apply(t, encode(m.next(newState(f), View{}, true)))
	if got := p.numbers["application shop ready"]; got == nil || *got != 3 {
		t.Errorf("%v replicas of 3 are ready", got)
	}
}

// TestViews: a reader gets the objects that it has asked for.
func TestViews(t *testing.T) {
	t.Parallel()
	var f *Facts
	for seed := uint64(0); f == nil || len(f.Status.Applications) < 3 || len(f.Status.Applications["shop"].Deployments["Ranker"].Replicas) < 2 || len(f.Status.Applications["shop"].Deployments) < 2; seed++ {
		f = random(rand.New(rand.NewPCG(seed, 0)))
	}
	for of, want := range map[View][4]int{{}: {2, 0, 0, 0}, {App: "shop"}: {2, 2, 0, 1}, {App: "shop", Deployment: "Ranker"}: {2, 2, 2, 1}, {App: "shop", Deployment: "Ranker", Replica: "Ranker#shop-1"}: {2, 2, 1, 1}, {App: "no"}: {2, 0, 0, 0}, {AllReplicas: true}: {2, 0, 0, 0}} {
		var m memory
		var p page
		u := p.apply(t, encode(m.next(newState(f), of, true)))
		got := [4]int{len(u.Applications), len(u.Deployments), len(u.Replicas), min(len(u.Edges), 1)}
		if of.Deployment != "" && of.Replica == "" {
			want[2] = len(f.Status.Applications["shop"].Deployments["Ranker"].Replicas)
		}
		if of.AllReplicas { // of the applications that are shown
			for _, app := range []string{"shop", "chat"} {
				for _, d := range f.Status.Applications[app].Deployments {
					want[2] += len(d.Replicas)
				}
			}
		}
		if got != want || u.Node == nil || u.Problems == nil || u.Figures.Node == nil {
			t.Errorf("%v: %v, want %v", of, got, want)
		}
	}
}

// byCaller are the rates of one deployment, whose calls are of several callers.
type byCaller struct {
	all  float64
	from map[telemetry.Caller]float64
}

func (b byCaller) Recent(string, string) (usage.Rate, bool) {
	return usage.Rate{Calls: b.all}, true
}
func (b byCaller) RecentAt(string) (usage.Rate, float64, bool) { return usage.Rate{}, 0, false }
func (b byCaller) RecentFrom(_, _ string, from telemetry.Caller) (usage.Rate, float64, bool) {
	r, ok := b.from[from]
	return usage.Rate{Calls: r}, 2, ok
}

// TestEdges: an edge has the calls of its caller. Calls that the node does not see are those of the declared caller, if there is one alone.
func TestEdges(t *testing.T) {
	t.Parallel()
	gateway, other := telemetry.Caller{Kind: telemetry.FromDeployment, App: "shop", Deployment: "Gateway"}, telemetry.Caller{Kind: telemetry.FromDeployment, App: "chat", Deployment: "Client"}
	second, driver, http := telemetry.Caller{Kind: telemetry.FromDeployment, App: "shop", Deployment: "Second"}, telemetry.Caller{Kind: telemetry.FromDriver}, telemetry.Caller{Kind: telemetry.FromHTTP}
	for name, c := range map[string]struct {
		rates    byCaller
		declared []string
		want     map[string]float64
	}{
		"seen":         {byCaller{12.1, map[telemetry.Caller]float64{gateway: 10, driver: 2}}, []string{"Gateway"}, map[string]float64{"Gateway>Ranker": 10, "driver>Ranker": 2}},
		"lent":         {byCaller{100, map[telemetry.Caller]float64{gateway: 10, driver: 2}}, []string{"Gateway"}, map[string]float64{"Gateway>Ranker": 98, "driver>Ranker": 2}},
		"lent, of two": {byCaller{100, map[telemetry.Caller]float64{gateway: 10, second: 1}}, []string{"Gateway", "Second"}, map[string]float64{"Gateway>Ranker": 10, "Second>Ranker": 1}},
		"others":       {byCaller{9, map[telemetry.Caller]float64{other: 5, http: 4}}, nil, map[string]float64{"chat/Client>Ranker": 5, "http>Ranker": 4}},
		"no calls":     {byCaller{0, nil}, []string{"Gateway"}, map[string]float64{"Gateway>Ranker": 0}},
	} {
		all := map[string]helvetype.DeploymentStatus{"Ranker": {}}
		for _, from := range c.declared {
			all[from] = helvetype.DeploymentStatus{Uses: []string{"Ranker"}}
		}
		k := telemetry.Deployment{Name: "Ranker", Callers: map[telemetry.Caller]telemetry.CallerCounts{}}
		for from := range c.rates.from {
			k.Callers[from] = telemetry.CallerCounts{}
		}
		s := newState(&Facts{
			Rates: c.rates, Status: helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Deployments: all}}},
			Counts: telemetry.Snapshot{Applications: []telemetry.Application{{Name: "shop", Deployments: []telemetry.Deployment{k}}}},
		})
		got := map[string]float64{}
		for _, e := range s.list(list{kind: edges, app: "shop"}) {
			got[e.name] = e.figures[0]
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// fake is a node with one application.
type fake struct {
	events *telemetry.Events
	took   time.Duration // of a look

	mu    sync.Mutex
	looks []time.Time
	state helvetype.ApplicationState
	rate  float64
	facts func() *Facts
}

func (n *fake) Events() *telemetry.Events { return n.events }

func (n *fake) Facts(context.Context) *Facts {
	time.Sleep(n.took)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.looks = append(n.looks, time.Now())
	if n.facts != nil {
		return n.facts()
	}
	return &Facts{
		At: time.Now(), Rates: rates{usage.Rate{Calls: n.rate}, 0}, Deployed: map[string]Deployed{},
		Status: helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Status: n.state, RoutePrefix: "/"}}},
	}
}

// number is the number of looks.
func (n *fake) number() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.looks)
}

func (n *fake) set(state helvetype.ApplicationState, rate float64) {
	n.mu.Lock()
	n.state, n.rate = state, rate
	n.mu.Unlock()
	n.events.Emit(helvetype.Event{Object: helvetype.Object{Kind: helvetype.KindApplication, App: "shop"}, To: string(state)})
}

// pass lets time pass, and then all goroutines come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestFollow: a change of a state comes at once, others within a second; a node at which nothing changes gives an empty item now and then; without readers there are no looks.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &fake{events: telemetry.NewEvents(nil), state: helvetype.ApplicationDeploying}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		h := New(ctx, n)
		pass(time.Minute)
		if n.number() != 0 {
			t.Errorf("%d looks without a reader", n.number())
		}
		reading, leave := context.WithCancelCause(ctx)
		var mu sync.Mutex // of the reader's items
		var items []helvetype.Update
		var at []time.Time
		var p page
		done := make(chan error, 1)
		go func() {
			done <- h.Follow(reading, View{}, func(b json.RawMessage) error {
				mu.Lock()
				defer mu.Unlock()
				items, at = append(items, p.apply(t, b)), append(at, time.Now())
				return nil
			})
		}()
		pass(500 * time.Millisecond)
		mu.Lock()
		if len(items) != 1 || !items[0].Whole {
			t.Fatalf("%+v", items)
		}
		mu.Unlock()
		begun := time.Now()
		n.set(helvetype.ApplicationRunning, 3)
		synctest.Wait()
		mu.Lock()
		if len(items) != 2 || !at[1].Equal(begun) || items[1].Applications[0].Status != helvetype.ApplicationRunning || items[1].Figures.Applications != nil {
			t.Fatalf("after a change of state: %+v", items[1:])
		}
		mu.Unlock()
		n.set(helvetype.ApplicationUnhealthy, 4) // soon after it
		pass(gap)
		mu.Lock()
		if len(items) != 3 || items[2].Applications[0].Status != helvetype.ApplicationUnhealthy {
			t.Fatalf("after the next one: %+v", items[2:])
		}
		mu.Unlock()
		pass(period + gap)
		mu.Lock()
		if rate := p.numbers["application shop rate"]; rate == nil || *rate != 4 {
			t.Errorf("a second later the rate is %v", rate)
		}
		n.events.Emit(helvetype.Event{}) // that changes nothing
		items = nil
		mu.Unlock()
		pass(3 * idle)
		mu.Lock()
		if len(items) < 2 || len(items) > 4 || items[0].Applications != nil || items[0].At.IsZero() {
			t.Errorf("items while nothing changes: %+v", items)
		}
		mu.Unlock()
		gone := errors.New("gone")
		leave(gone)
		if err := <-done; !errors.Is(err, gone) {
			t.Error(err)
		}
		synctest.Wait()
		looks := n.number()
		pass(time.Minute)
		if n.number() != looks {
			t.Errorf("%d looks without a reader", n.number()-looks)
		}
		if err := h.Follow(ctx, View{}, func(json.RawMessage) error { return gone }); !errors.Is(err, gone) { // a second reader, after all have left
			t.Error(err)
		}
		stop()
		if err := h.Follow(t.Context(), View{}, func(json.RawMessage) error { return nil }); err == nil {
			t.Error("a node that has ended is followed")
		}
	})
}

// TestStorm: however many events there are, and however long a look takes, looks take a fifth of the time at most.
func TestStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &fake{events: telemetry.NewEvents(nil), took: 200 * time.Millisecond}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		h := New(ctx, n)
		for range 3 {
			go h.Follow(ctx, View{}, func(json.RawMessage) error { return nil }) //nolint:errcheck // the end of ctx
		}
		for range 1000 {
			n.set(helvetype.ApplicationRunning, 1)
			time.Sleep(10 * time.Millisecond)
		}
		if got := n.number(); got < 8 || got > 11 {
			t.Errorf("%d looks in 10 s", got)
		}
		stop()
		time.Sleep(n.took) // the look under way
	})
}

// thousand is a node with a thousand replicas of one deployment, with 500 calls a second.
func thousand(r *rand.Rand, second int, calls []uint64) *Facts {
	d, k := helvetype.DeploymentStatus{Status: helvetype.DeploymentHealthy, Wanted: 1000, Ready: 1000}, telemetry.Deployment{Name: "Ranker"}
	for range 500 {
		calls[r.IntN(1000)]++
	}
	for i := range calls {
		id := fmt.Sprintf("Ranker#%04d", i)
		d.Replicas = append(d.Replicas, helvetype.ReplicaStatus{
			ID: id, State: helvetype.ReplicaRunning, Ready: true, Revision: 3, Rank: i, PID: 10000 + i, StartedAt: time.Unix(1e9, int64(i)), Memory: 180<<20 + 4096*uint64(r.IntN(2)),
			CPU: float64(second/5*i%7) / 3, Resources: map[string]float64{"CPU": 1},
		})
		k.Replicas = append(k.Replicas, telemetry.Replica{ID: id, Calls: telemetry.Counts{Started: 100_000 + calls[i]}, Running: r.IntN(2)})
	}
	return &Facts{
		At: time.Unix(1e9+int64(second), 0), Rates: perReplica{slices.Clone(calls), float64(5 + second%5)}, Counts: telemetry.Snapshot{Applications: []telemetry.Application{{Name: "shop", Deployments: []telemetry.Deployment{k}}}},
		Status: helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Deployments: map[string]helvetype.DeploymentStatus{"Ranker": d}}}},
	}
}

// perReplica are rates that differ from replica to replica and from second to second.
type perReplica struct {
	calls []uint64
	took  float64
}

func (perReplica) Recent(string, string) (usage.Rate, bool) { return usage.Rate{Calls: 500}, true }
func (p perReplica) RecentAt(id string) (usage.Rate, float64, bool) {
	var i int
	fmt.Sscanf(id, "Ranker#%d", &i) //nolint:errcheck // it is one
	return usage.Rate{Calls: float64(p.calls[i]) / p.took}, math.NaN(), true
}

func (perReplica) RecentFrom(string, string, telemetry.Caller) (usage.Rate, float64, bool) {
	return usage.Rate{}, math.NaN(), false
}

// TestBytes: a reader of the thousand replicas of a deployment, or of the node, with 500 calls a second gets at most 50 KB a second after its first item, and figures that are a few seconds old at most.
func TestBytes(t *testing.T) {
	t.Parallel()
	for _, of := range []View{{App: "shop", Deployment: "Ranker"}, {AllReplicas: true}} {
		t.Run(fmt.Sprint(of), func(t *testing.T) {
			t.Parallel()
			testBytes(t, of)
		})
	}
}

func testBytes(t *testing.T, of View) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r, calls, second := rand.New(rand.NewPCG(3, 4)), make([]uint64, 1000), 0
		n := &fake{events: telemetry.NewEvents(nil)}
		n.facts = func() *Facts {
			second++
			return thousand(r, second, calls)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		h := New(ctx, n)
		var sizes []int
		go h.Follow(ctx, of, func(b json.RawMessage) error { //nolint:errcheck // the end of ctx
			sizes = append(sizes, len(b))
			return nil
		})
		time.Sleep(61 * time.Second)
		stop()
		synctest.Wait()
		later, all := sizes[1:], 0
		for _, size := range later {
			all += size
		}
		t.Logf("the first item has %d bytes, and %d later ones have %d at most and %d a second", sizes[0], len(later), slices.Max(later), all/60)
		if all > 60*bytesSecond || len(later) < 20 || sizes[0] > 400_000 {
			t.Errorf("%d bytes in %d items", all, len(later))
		}
	})
}

// BenchmarkThousand is a look at a thousand replicas, and its item for one reader, without the status of the node.
func BenchmarkThousand(b *testing.B) {
	r, calls := rand.New(rand.NewPCG(3, 4)), make([]uint64, 1000)
	states := []*Facts{thousand(r, 1, calls), thousand(r, 2, calls)}
	var m memory
	bytes, i := 0, 0
	for b.Loop() {
		bytes += len(encode(m.next(newState(states[i%2]), View{App: "shop", Deployment: "Ranker"}, true)))
		i++
	}
	b.ReportMetric(float64(bytes)/float64(i), "bytes/item")
}
