package placement

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/spec"
)

// TestAmounts: a number of GPUs that cannot be is refused; ten tenths, three thirds and seven sevenths fill a device.
func TestAmounts(t *testing.T) {
	t.Parallel()
	for n, ok := range map[float64]bool{0: true, 0.5: true, 1: true, 8: true, 1.5: true, -1: false, 1e-9: false, 1e30: false} {
		if err := CheckGPUs(n); (err == nil) != ok {
			t.Errorf("%v: %v", n, err)
		}
	}
	for n, part := range map[int]float64{10: 0.1, 3: 1.0 / 3, 7: 1.0 / 7, 1: 1} {
		node := Unstated("n", "0")
		s, d := NewSpace(&node), Demand{GPUs: AmountOf(part)}
		for i := range n + 1 {
			devices, ok := s.Fit("D", &d)
			if ok != (i < n) {
				t.Errorf("%d of %d fit: %v", i+1, n, ok)
			}
			if ok {
				s.Add(HoldingOf(fmt.Sprint(i), "D", d, devices))
			}
		}
	}
}

// TestDevices: parts share the device with the least room that is enough, whole numbers do not share, and the first device that is free is given first.
func TestDevices(t *testing.T) {
	t.Parallel()
	node := Unstated("n", "0", "1", "2")
	s := NewSpace(&node)
	for i, step := range []struct {
		amount float64
		want   string
	}{{0.5, "0"}, {1, "1"}, {0.5, "0"}, {0.25, "2"}, {0.75, "2"}, {0, ""}} {
		d := Demand{GPUs: AmountOf(step.amount)}
		devices, ok := s.Fit("D", &d)
		if !ok || strings.Join(devices, ",") != step.want {
			t.Fatalf("step %d: %v, %v; want %q", i, devices, ok, step.want)
		}
		s.Add(HoldingOf(fmt.Sprint(i), "D", d, devices))
	}
}

// TestShort: the reason says what is missing, how much the node has, and which replicas hold it.
func TestShort(t *testing.T) {
	t.Parallel()
	node := Node{
		Name: "n", CPUs: 4 * One, Memory: 2 << 30, Devices: []Device{{Name: "0"}, {Name: "1"}}, Kind: "H200", Custom: map[string]Amount{"gpu_mem": 80 * One}, Labels: map[string]string{"region": "us"},
	}
	s := NewSpace(&node)
	var held []Holding
	for i, d := range []Demand{{GPUs: One}, {GPUs: One / 2}, {CPUs: 3 * One}, {Memory: 1536 << 20}, {Custom: map[string]Amount{"gpu_mem": 60 * One}}} {
		devices, ok := s.Fit("shop/Model", &d)
		if !ok {
			t.Fatal(i)
		}
		h := HoldingOf(fmt.Sprintf("Model#%d", i), "shop/Model", d, devices)
		held = append(held, h)
		s.Add(h)
	}
	for name, c := range map[string]struct {
		demand Demand
		want   string
		never  bool
	}{
		"GPUs":               {Demand{GPUs: 2 * One}, "needs 2 GPUs, and 0 of 2 are free: shop/Model#0, Model#1 hold 1.5", false},
		"a part of a GPU":    {Demand{GPUs: 6000}, "needs 0.6 of a GPU, and none of 2 has that much free: shop/Model#0, Model#1 hold 1.5", false},
		"too many GPUs":      {Demand{GPUs: 3 * One}, "needs 3 GPUs, and this node has 2", true},
		"another kind":       {Demand{GPUs: One / 2, Kind: "A100"}, "needs a GPU of the kind A100, and the node has H200", true},
		"CPUs":               {Demand{CPUs: 15000}, "needs 1.5 CPUs, and 1 of 4 are free: shop/Model#2 holds 3", false},
		"memory":             {Demand{Memory: 1 << 30}, "needs 1 GiB of memory, and 512 MiB of 2 GiB are free: shop/Model#3 holds 1.5 GiB", false},
		"a custom resource":  {Demand{Custom: map[string]Amount{"gpu_mem": 30 * One}}, `needs 30 of "gpu_mem", and 20 of 80 are free: shop/Model#4 holds 60`, false},
		"an unknown one":     {Demand{Custom: map[string]Amount{"licence": One}}, `needs 1 of "licence", and this node has none (--resources states what it has)`, true},
		"a label":            {Demand{Labels: spec.Selector{"region": "eu"}}, `needs the label region=eu, and the node has "us"`, true},
		"a label of no node": {Demand{Labels: spec.Selector{"zone": "in(a,b)"}}, `needs the label zone=in(a,b), and the node has no such label`, true},
		"two things":         {Demand{CPUs: 2 * One, GPUs: One}, "needs 1 GPU, and 0 of 2 are free: shop/Model#0, Model#1 hold 1.5; needs 2 CPUs, and 1 of 4 are free: shop/Model#2 holds 3", false},
		"the limit":          {Demand{PerNode: 5}, "max_replicas_per_node is 5, and the node has 5 of them", false},
	} {
		e := s.Short("shop/Model", &c.demand, held)
		if e == nil || e.Error() != c.want || e.Never() != c.never {
			t.Errorf("%s: %v, want %s", name, e, c.want)
		}
	}
	for name, d := range map[string]Demand{
		"free": {CPUs: One, GPUs: One / 2, Kind: "H200", Memory: 1 << 20}, "a label": {Labels: spec.Selector{"region": "!eu", "zone": "!a"}},
		"a fallback": {Labels: spec.Selector{"region": "eu"}, Fallback: []spec.Selector{{"region": "asia"}, {"region": "in(us, uk)"}}},
	} {
		if e := s.Short("shop/Model", &d, held); e != nil {
			t.Errorf("%s: %v", name, e)
		}
	}
	held[0].Used, held[1].Used, held[2].Used = 31<<30, 1<<29, 1<<30
	if e := s.Short("D", &Demand{GPUs: 2 * One, CPUs: 2 * One}, held); e == nil || e.Error() != "needs 2 GPUs, and 0 of 2 are free: shop/Model#0, Model#1 hold 1.5 (31.5 GiB of GPU memory in use); needs 2 CPUs, and 1 of 4 are free: shop/Model#2 holds 3" {
		t.Error(e)
	}
	node.Draining = true
	if e := s.Short("D", &Demand{}, held); e == nil || e.Error() != "the node drains" {
		t.Error(e)
	}
	many := []Holding{}
	for i := range 12 {
		many = append(many, Holding{Holder: fmt.Sprint("M#", i), Deployment: fmt.Sprint("a/D", i%6), Amount: 1})
	}
	many = append(many, slices.Repeat([]Holding{{Holder: "E#1", Deployment: "b/E", Amount: 0.25}}, 4)...)
	if got := holders(GPU, many); got != "a/M#0, M#6 hold 2, a/M#1, M#7 hold 2, a/M#2, M#8 hold 2, a/M#3, M#9 hold 2, 3 other deployments the rest" {
		t.Error(got)
	}
	if got := holders(GPU, many[12:]); got != "b/E (4 replicas) holds 1" {
		t.Error(got)
	}
}

// TestUnstated: amounts of which nothing was stated are recorded, and no replica waits for them.
func TestUnstated(t *testing.T) {
	t.Parallel()
	node := Unstated("n")
	s := NewSpace(&node)
	d := Demand{CPUs: 1000 * One, Memory: 1 << 50, Custom: map[string]Amount{"x": One}, Kind: "A100"}
	for range 3 {
		if _, ok := s.Fit("D", &d); !ok {
			t.Error(s.Short("D", &d, nil))
		}
		s.Add(HoldingOf("r", "D", d, nil))
	}
}

func wantsOf(n int, d Demand) (all []Want) {
	for i := range n {
		all = append(all, Want{ID: fmt.Sprint("D#", i), Deployment: "app/D", Demand: d})
	}
	return all
}

func nodesOf(answers []Answer) string {
	var names []string
	for _, a := range answers {
		name := a.Node
		if a.Err != nil {
			name = "-"
		}
		names = append(names, name+strings.Join(a.Devices, "+"))
	}
	return strings.Join(names, " ")
}

// TestStrategies: replicas are spread over nodes or packed, gangs are placed as a whole, labels and their fallbacks choose nodes, and limits for a node hold.
func TestStrategies(t *testing.T) {
	t.Parallel()
	three := []Node{Unstated("c", "0", "1"), Unstated("a", "0", "1"), Unstated("b", "0", "1")}
	labelled := slices.Clone(three)
	labelled[0].Labels, labelled[1].Labels = map[string]string{"region": "eu"}, map[string]string{"region": "us"}
	drained := slices.Clone(three)
	drained[1].Draining = true
	half, whole := Demand{GPUs: One / 2}, Demand{GPUs: One}
	gang := wantsOf(4, whole)
	for i := range gang {
		gang[i].Gang = "g"
	}
	for name, c := range map[string]struct {
		nodes []Node
		held  []Holding
		wants []Want
		by    Strategy
		want  string
	}{
		"spread":              {three, nil, wantsOf(4, Demand{}), Spread, "a b c a"},
		"spread with GPUs":    {three, nil, wantsOf(7, whole), Spread, "a0 b0 c0 a1 b1 c1 -"},
		"pack":                {three, nil, wantsOf(5, half), Pack, "a0 a0 a1 a1 b0"},
		"pack beside others":  {three, []Holding{{Holder: "x", Node: "b", Deployment: "o", Amount: 0.5, Devices: []string{"1"}}}, wantsOf(2, half), Pack, "b1 b0"},
		"the larger first":    {three[:1], nil, append(wantsOf(2, half), Want{ID: "big", Deployment: "app/B", Demand: Demand{GPUs: 2 * One}}), Pack, "- - c0+1"},
		"in turn":             {three[:1], nil, append(wantsOf(2, half), Want{ID: "big", Deployment: "app/B", Demand: Demand{GPUs: 2 * One}}), Spread, "c0 c0 -"},
		"past one that waits": {three[:1], nil, append([]Want{{ID: "big", Demand: Demand{GPUs: 4 * One}}}, wantsOf(1, whole)...), Spread, "- c0"},
		"a drained node":      {drained, nil, wantsOf(3, Demand{}), Spread, "b c b"},
		"one for a node":      {three, nil, wantsOf(4, Demand{PerNode: 1}), Spread, "a b c -"},
		"a gang":              {three[:2], nil, gang, Pack, "a0 a1 c0 c1"},
		"a gang without room": {three[:1], nil, append(slices.Clone(gang), wantsOf(1, whole)[0]), Pack, "- - - - c0"},
		"labels":              {labelled, nil, wantsOf(2, Demand{Labels: spec.Selector{"region": "us"}}), Spread, "a a"},
		"labels of no node":   {labelled, nil, wantsOf(1, Demand{Labels: spec.Selector{"region": "asia"}}), Spread, "-"},
		"fallbacks":           {labelled, nil, wantsOf(3, Demand{GPUs: 2 * One, Labels: spec.Selector{"region": "us"}, Fallback: []spec.Selector{{"region": "eu"}}}), Spread, "a0+1 c0+1 -"},
		"no node":             {nil, nil, wantsOf(1, Demand{}), Spread, "-"},
	} {
		if name == "a gang without room" {
			c.wants[4].ID = "alone"
		}
		if got := nodesOf(Place(c.nodes, c.held, c.wants, c.by)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	why := Place(three[:2], []Holding{{Holder: "x#1", Node: "a", Deployment: "o/x", Amount: 1, Devices: []string{"0"}}}, wantsOf(1, Demand{GPUs: 3 * One}), Spread)[0].Err
	if why == nil || why.Error() != "no node has room: a needs 3 GPUs, and this node has 2; c needs 3 GPUs, and this node has 2" {
		t.Error(why)
	}
	why = Place(three[:1], nil, gang, Pack)[0].Err
	if why == nil || why.Error() != "the 4 replicas of gang g start together, and D#2 needs 1 GPU, and 0 of 2 are free: app/D#0, D#1 hold 2" {
		t.Error(why)
	}
	if short, ok := errors.AsType[*ShortError](why); !ok || short.Never() || short.Lacks()[0].Thing != GPU {
		t.Error(why)
	}
}

// TestRandomPlacement: over random nodes and demands no node and no device is given beyond its whole, a whole device has one holder, a replica waits only if no node had room for it when its
// turn came, the limit for a node holds, gangs are whole, and the same question has the same answer in any order of the nodes.
func TestRandomPlacement(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 2))
		var nodes []Node
		for i := range 1 + r.IntN(5) {
			n := Unstated(fmt.Sprint("n", i))
			for g := range r.IntN(4) {
				n.Devices = append(n.Devices, Device{Name: fmt.Sprint("GPU-", g)})
			}
			if r.IntN(2) == 0 {
				n.CPUs, n.Memory = Amount(r.IntN(8))*One, int64(r.IntN(8))<<30
			}
			if r.IntN(2) == 0 {
				n.AnyCustom, n.Custom = false, map[string]Amount{"x": Amount(r.IntN(4)) * One}
			}
			n.Labels, n.Draining = map[string]string{"zone": fmt.Sprint(r.IntN(2))}, r.IntN(8) == 0
			nodes = append(nodes, n)
		}
		var wants []Want
		for i := range r.IntN(30) {
			d := Demand{GPUs: AmountOf([]float64{0, 0.1, 0.25, 1.0 / 3, 0.5, 0.9, 1, 2, 3, 1.5, 2.25}[r.IntN(11)]), CPUs: Amount(r.IntN(3)) * One / 2, Memory: int64(r.IntN(3)) << 29, PerNode: r.IntN(4)}
			if r.IntN(3) == 0 {
				d.Custom = map[string]Amount{"x": One / 2}
			}
			if r.IntN(3) == 0 {
				d.Labels = spec.Selector{"zone": []string{"0", "!0", "in(0,1)", "2"}[r.IntN(4)]}
			}
			w := Want{ID: fmt.Sprint("r", i), Deployment: fmt.Sprint("app/D", r.IntN(3)), Demand: d}
			if r.IntN(4) == 0 {
				w.Gang = fmt.Sprint("g", r.IntN(2))
			}
			wants = append(wants, w)
		}
		by := Strategy(r.IntN(2))
		answers := Place(nodes, nil, wants, by)
		shuffled := slices.Clone(nodes)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := Place(shuffled, nil, wants, by); nodesOf(again) != nodesOf(answers) {
			t.Fatalf("seed %d: %s, and in another order of the nodes %s", seed, nodesOf(answers), nodesOf(again))
		}
		check(t, seed, nodes, wants, answers, by)
	}
}

// TestWholeAndPart: 1.5 GPUs are one device for the replica alone, and a half of another, which parts of others share. Both come back.
func TestWholeAndPart(t *testing.T) {
	t.Parallel()
	node := Unstated("n", "0", "1", "2")
	s := NewSpace(&node)
	hold := func(id string, gpus float64) (h Holding, devices string) {
		d := Demand{GPUs: AmountOf(gpus)}
		found, ok := s.Fit("D", &d)
		if ok {
			h = HoldingOf(id, "app/D", d, found)
			s.Add(h)
		}
		return h, fmt.Sprint(found)
	}
	half, at := hold("A", 0.5)
	if at != "[0]" {
		t.Error(at)
	}
	mixed, at := hold("B", 1.5)
	if at != "[1 0]" {
		t.Error(at)
	}
	d := Demand{GPUs: AmountOf(1.5)}
	if e := s.Short("app/D", &d, []Holding{half, mixed}); e == nil || e.Error() != "needs 1.5 GPUs, and 1 of 3 are free: app/A, B hold 2" {
		t.Error(e)
	}
	if _, at := hold("C", 0.25); at != "[2]" {
		t.Error(at)
	}
	s.Remove(mixed)
	s.Remove(half)
	if _, at := hold("D", 2.75); at != "[0 1 2]" {
		t.Error(at)
	}
	if _, at := hold("E", 0.01); at != "[]" {
		t.Error(at)
	}
}

// check holds the properties of TestRandomPlacement, with sums of its own.
func check(t *testing.T, seed uint64, nodes []Node, wants []Want, answers []Answer, by Strategy) {
	t.Helper()
	type sums struct {
		cpus, x Amount
		memory  int64
		parts   map[string]Amount
		holders map[string]int
		of      map[string]int
	}
	all, gangs := map[string]*sums{}, map[string][]bool{}
	for _, n := range nodes {
		all[n.Name] = &sums{parts: map[string]Amount{}, holders: map[string]int{}, of: map[string]int{}}
	}
	for i, a := range answers {
		w := wants[i]
		if w.Gang != "" {
			gangs[w.Gang] = append(gangs[w.Gang], a.Err == nil)
		}
		if (a.Err == nil) != (a.Node != "") || a.ID != w.ID {
			t.Fatalf("seed %d: %+v for %+v", seed, a, w)
		}
		if a.Err != nil {
			continue
		}
		s := all[a.Node]
		s.cpus, s.memory, s.x = s.cpus+w.Demand.CPUs, s.memory+w.Demand.Memory, s.x+w.Demand.Custom["x"]
		s.of[w.Deployment]++
		if want := int((w.Demand.GPUs + One - 1) / One); len(a.Devices) != want || len(slices.Compact(slices.Sorted(slices.Values(a.Devices)))) != want {
			t.Fatalf("seed %d: devices %v for %+v", seed, a.Devices, w.Demand)
		}
		for i, d := range a.Devices {
			s.parts[d] += min(w.Demand.GPUs-Amount(i)*One, One)
			s.holders[d]++
		}
	}
	for gang, placed := range gangs {
		if slices.Contains(placed, true) && slices.Contains(placed, false) {
			t.Errorf("seed %d: gang %s is placed in part: %v", seed, gang, placed)
		}
	}
	for _, n := range nodes {
		s := all[n.Name]
		if n.CPUs != All && s.cpus > n.CPUs || n.Memory >= 0 && s.memory > n.Memory || !n.AnyCustom && s.x > n.Custom["x"] || n.Draining && len(s.of) > 0 {
			t.Errorf("seed %d: node %+v has %+v", seed, n, s)
		}
		for d, part := range s.parts {
			if part > One {
				t.Errorf("seed %d: %s has %v of %s", seed, n.Name, part, d)
			}
		}
	}
	for i, a := range answers {
		w := wants[i]
		if a.Err != nil {
			if w.Gang != "" {
				continue
			}
			// All that was placed stays, so that a replica without a place would not fit at the end either, but for a limit that gangs have left.
			space := map[string]*Space{}
			for j := range nodes {
				space[nodes[j].Name] = NewSpace(&nodes[j])
			}
			for j, o := range answers {
				if o.Node != "" {
					space[o.Node].Add(HoldingOf(o.ID, wants[j].Deployment, wants[j].Demand, o.Devices))
				}
			}
			for _, n := range nodes {
				if _, fits := space[n.Name].Fit(w.Deployment, &w.Demand); fits && w.Demand.Meets(n) {
					t.Errorf("seed %d: %+v waits (%v), and %s has room", seed, w, a.Err, n.Name)
				}
			}
		} else if per := w.Demand.PerNode; per > 0 && by == Spread && len(gangs) == 0 {
			own := 0
			for j, o := range answers[:i] {
				if o.Node == a.Node && wants[j].Deployment == w.Deployment {
					own++
				}
			}
			if own >= per {
				t.Errorf("seed %d: %d of %s are on %s before %s, at most %d", seed, own, w.Deployment, a.Node, w.ID, per)
			}
		}
	}
}
