package planner

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Change bounds the change of a deployment's replicas from former revisions to the revision of its [Target]. With Replicas as N, at most N + Surge
// replicas are there at a time, and no ready replica is stopped unless N - Unavailable ready ones are left. Ready replicas of any revision count. For
// example, with N = 4, a Surge of 1 and no Unavailable: one new replica starts beside the four; when it is ready one of the four stops; then the next starts.
type Change struct {
	Surge       int
	Unavailable int
	// New is the number of replicas that the target's revision may have for now: former ones stay in the place of the others. It is Replicas or
	// more for all. For example, a rollout that waits after a first step of 1 of 4 replicas has a New of 1.
	New int
	// Former is the revision before, which has served; "" for none. Replicas of it start where there are less than Replicas - New. In doubt about the new revision they also
	// start where less than the number that has to be ready is there: new replicas wait for a deployment that they use, or, with Doubt, none was ready yet or they fail. For
	// example, a machine restarts in a rollout of 4 replicas with a surge of 1: 4 former replicas start, which are known to be good, and 1 new one.
	Former string
	Doubt  bool
	Had    int   // replicas that Former had: a change that raises the number starts no more of them than that
	Uses   []Key // as Target.Uses, of Former
	// Failures counts failed starts of Former; Ran says that a replica of it was ready once.
	Failures History
	// Before is the number of replicas before a change that also lowers it; 0 for other changes. Former replicas go in proportion to the new ones that are ready, so that
	// a revision that never becomes ready takes no replica away. For example, a deploy changes 6 replicas to 2: all 6 stay until the first new one is ready, then
	// 3 of them go, and with the second the others. At most Before + Surge replicas are there at a time.
	Before int
}

// least is the number of replicas that have to be there in a change to n replicas, of which ready ones are of the new revision.
func (c *Change) least(n, ready int) int {
	if c.Before <= n || n == 0 || ready >= n {
		return n
	}
	return c.Before - ready*c.Before/n + ready
}

// former is the number of former replicas that have to be there in a change to n replicas, of which ready ones are of the new revision.
func (c *Change) former(n, ready int, doubt bool) (least int) {
	if c.Former == "" {
		return 0
	}
	if doubt {
		least = min(n, c.Had) - c.Unavailable - ready
	}
	return max(least, n-max(c.New, 0), 0)
}

// unbounded is the change of a target without one: all replicas of its revision start at once.
var unbounded = Change{Surge: math.MaxInt / 4, New: math.MaxInt} //nolint:gochecknoglobals // a constant

// Bounds makes a change that can go on of a surge and a number of unavailable replicas that were asked for. most is the number of replicas of the
// deployment that the node may have; 0 for no limit. Where the surge does not fit and nothing may be unavailable, one replica may be, and said is a
// sentence about that. For example, a deployment of 2 replicas with a max_replicas_per_node of 2 and a surge of 1 is changed with one missing.
func Bounds(replicas, surge, unavailable, most int) (c Change, said string) {
	c = Change{Surge: max(surge, 0), Unavailable: min(max(unavailable, 0), max(replicas, 0)), New: replicas}
	if most > 0 {
		c.Surge = min(c.Surge, max(most-replicas, 0))
	}
	if c.Surge == 0 && c.Unavailable == 0 {
		c.Unavailable = 1
		if surge > 0 {
			said = "replicas beside the wanted number do not fit (max_replicas_per_node): one replica stops before its successor starts"
		}
	}
	return c, said
}

// compare returns the number of missing replicas of one deployment, of its revision and of the former one, and the surplus replicas. doubt is as [Change].Doubt.
func compare(t Target, live []Observed, doubt bool) (start, back int, stop []Observed) {
	n, c := max(t.Replicas, 0), &unbounded
	if t.Change != nil {
		c = t.Change
	}
	var current, former []Observed
	newReady, ready := 0, 0
	for _, o := range live {
		if o.State == Running {
			ready++
		}
		switch {
		case o.Revision != t.Revision:
			former = append(former, o)
		default:
			current = append(current, o)
			if o.State == Running {
				newReady++
			}
		}
	}
	most := min(max(c.New, 0), n) // of the revision
	stay := c.least(n, newReady) - c.Unavailable
	may := ready - stay
	// A former replica that is not ready stops if enough others are there that are ready or will be, as in Kubernetes: it may become ready again.
	spare := len(live) - stay - (len(current) - newReady)
	stop, former = idle(former, max(c.former(n, newReady, doubt), n-most))
	spare -= len(stop)
	ending := surplus(former, n-most, spare, &may)
	stop, stays := append(stop, ending...), len(former)-len(ending)
	over := surplus(current, most, len(current), &may)
	have := len(current) - len(over)
	stop = append(stop, over...)
	room := max(n, c.Before) + c.Surge - stays - have
	back = max(min(c.former(n, newReady, doubt)-stays, room), 0)
	return max(min(most-have, room-back), 0), back, stop
}

// idle splits former replicas into the ones that give their place to new ones and the others: a replica that waits for its part of the node gives its place, unless fewer than a number of
// former ones would be left, because no call misses it. For example, of 3 replicas of revision 1 the third waits for a GPU when the first of revision 2 is ready: the third does not start any more,
// and a GPU that is free is for revision 2.
func idle(former []Observed, keep int) (gone, others []Observed) {
	slices.SortFunc(former, least)
	for _, o := range former {
		if o.Waits && len(gone) < len(former)-keep {
			gone = append(gone, o)
		} else {
			others = append(others, o)
		}
	}
	return gone, others
}

// surplus returns the replicas that are to stop so that keep are left: the least useful first (see [least]), at most may ready replicas, and at
// most spare others.
func surplus(of []Observed, keep, spare int, may *int) (stop []Observed) {
	slices.SortFunc(of, least)
	for _, o := range of[:max(len(of)-max(keep, 0), 0)] {
		left := &spare
		if o.State == Running {
			left = may
		}
		if *left > 0 {
			*left--
			stop = append(stop, o)
		}
	}
	return stop
}

// least orders replicas by what their end would lose, the least first: starting replicas, then unready ones, then ready ones by the calls that they execute, by the streams among these, by
// the models that no other replica has, by the models that they have loaded, and the youngest first. For example, of three replicas that run, the first executes a call, the second has a model loaded, and
// the third, which is older than both, has neither: the third goes, then the second. Of three idle ones with the models fr and de, fr and de, and es, one of the first two goes: no model is lost.
func least(a, b Observed) int {
	return cmp.Or(
		cmp.Compare(a.State, b.State), cmp.Compare(a.Use.Calls, b.Use.Calls), cmp.Compare(a.Use.Streams, b.Use.Streams),
		cmp.Compare(a.Use.Alone, b.Use.Alone), cmp.Compare(a.Use.Models, b.Use.Models),
		b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.ID, b.ID),
	)
}

// delayed says until when the next start waits after failures; zero if it need not.
func (h History) delayed(now time.Time) time.Time {
	if at := h.LastFailure.Add(Delay(h.Rounds)); h.Rounds > 1 && at.After(now) {
		return at
	}
	return time.Time{}
}
