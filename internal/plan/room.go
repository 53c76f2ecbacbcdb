package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/spec"
)

// seats are the replicas of an application as they would be placed after the change, beside those of other applications.
type seats struct {
	app   string
	space *placement.Space
	held  []placement.Holding
	left  map[string]int   // replicas without a place, by deployment
	why   map[string]error // why the first of them has none
}

// seat places the replicas of an application, one deployment after the other by their names.
func (in Input) seat(after, before map[string]spec.Deployment) *seats {
	s := &seats{app: in.App, space: placement.NewSpace(&in.On), held: slices.Clone(in.Elsewhere), left: map[string]int{}, why: map[string]error{}}
	for _, h := range in.Elsewhere {
		s.space.Add(h)
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		d := after[name]
		demand, of := placement.DemandOf(d.Language, d.Options.Effective()), in.App+"/"+name
		n := placement.Placeable(in.next(d, before), d.Options.MaxReplicasPerNode)
		for i := range n {
			if e := s.space.Short(of, &demand, s.held); e != nil {
				s.left[name], s.why[name] = n-i, e
				break
			}
			holder := name + " (new)"
			if there := in.Replicas[name]; i < len(there) {
				holder = there[i]
			}
			s.take(of, holder, demand)
		}
	}
	return s
}

func (s *seats) take(deployment, replica string, d placement.Demand) {
	devices, _ := s.space.Fit(deployment, &d)
	h := placement.HoldingOf(replica, deployment, d, devices)
	if s.space.Add(h); !d.Zero() {
		s.held = append(s.held, h)
	}
}

// budget is the surge and the number of missing replicas of an update. A surge that does not fit the machine becomes smaller, and replicas are missing
// then: for example, one replica has the only GPU. short is the reason of a smaller surge; "" for none.
func (s *seats) budget(d spec.Deployment, n int) (surge, unavailable int, short string) {
	o := d.Options.Effective()
	surge, unavailable = o.Surge(n), o.Unavailable(n)
	if o.MaxReplicasPerNode > 0 {
		surge = max(0, min(surge, o.MaxReplicasPerNode-n))
	}
	demand, name := placement.DemandOf(d.Language, o), s.app+"/"+d.Name
	beside := s.space.Clone()
	for i := range surge {
		devices, ok := beside.Fit(name, &demand)
		if !ok {
			surge = i
			if e := beside.Short(name, &demand, s.held); e != nil && s.left[d.Name] == 0 { // else fit has said it
				short = e.Error()
			}
			break
		}
		beside.Add(placement.HoldingOf("", name, demand, devices))
	}
	if surge == 0 && unavailable == 0 && n > 0 {
		unavailable = 1
	}
	return surge, unavailable, short
}

// fit says whether the replicas of a deployment find a place.
func (in Input) fit(d *helvetype.DeploymentPlan, o spec.Effective, s *seats) {
	switch n := s.left[d.Name]; {
	case o.MaxReplicasPerNode > 0 && d.Next > o.MaxReplicasPerNode:
		d.Fit = fmt.Sprintf("%d of %d replicas would wait: max_replicas_per_node is %d", d.Next-o.MaxReplicasPerNode, d.Next, o.MaxReplicasPerNode)
	case n > 0:
		d.Fit = fmt.Sprintf("%d of %d replicas would wait: each %s", n, d.Next, s.why[d.Name])
	}
}
