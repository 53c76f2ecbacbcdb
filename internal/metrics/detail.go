package metrics

import "github.com/helve-serve/helve/internal/telemetry"

// A histogram is a line for each of its buckets, so that 1,000 replicas with 20 buckets of latency each would be 2.6 MB of text at every scrape, and as many
// series in Prometheus. So a page shows fewer bounds of its histograms the more of them there are. The bounds that are left are the same for all replicas, or for all
// deployments: Prometheus adds the lines of one bound. A bucket counts all that is below its bound, so that a bound can be left out and those above it are right.
//
// For example, with the usual bounds 1,000 replicas of ten deployments show 5, 100, 500, 10000 and 600000 ms of each replica, and all 19 bounds of each deployment. A
// page of 150 replicas shows all of both. A page that leaves out bounds of replicas also leaves out two kinds of lines of a replica while they are 0: failed calls, and calls
// that run, as the router sees them.

// detail says which bounds are shown: all at 0, and about half as many at each number above it. The bounds of a larger number are among those of the smaller one,
// so that a quantile stays right while the number changes.
type detail int

// detailMax is the detail with the fewest bounds: 100 and 10000 ms of the usual ones.
const detailMax detail = 3

// bucketLines is the number of lines of buckets, but for the infinite ones, that the histograms of a page may have together before bounds are left out. A line
// takes about 120 bytes.
const bucketLines = 6000

// shows says whether the bound at a place is shown.
func (d detail) shows(i int) bool {
	switch d {
	case 0:
		return true
	case 1:
		return i%2 == 0
	case 2:
		return i%4 == 2
	default:
		return i%8 == 6
	}
}

// zeros says whether lines of replicas are shown that could be left out because they are 0.
func (d detail) zeros() bool { return d == 0 }

// of is the detail for a histogram with a number of bounds: with few bounds there is not much to leave out.
func (d detail) of(bounds int) detail {
	for d > 0 && d.lines(bounds) < min(2, bounds) {
		d--
	}
	return d
}

// lines is how many of a number of bounds are shown.
func (d detail) lines(bounds int) (n int) {
	for i := range bounds {
		if d.shows(i) {
			n++
		}
	}
	return n
}

// details are the details of a page: of the latencies of replicas, and of the histograms of deployments and routes, for which there is one for many replicas.
type details struct{ replicas, others detail }

// fit chooses the details of a page. histograms counts its histograms by their numbers of bounds: those of replicas, and the others. The bounds of replicas are left out first.
func fit(replicas, others map[int]int) (d details) {
	lines := func() (n int) {
		for bounds, number := range replicas {
			n += number * d.replicas.of(bounds).lines(bounds)
		}
		for bounds, number := range others {
			n += number * d.others.of(bounds).lines(bounds)
		}
		return n
	}
	for ; d.replicas < detailMax && lines() > bucketLines; d.replicas++ {
	}
	for ; d.others < detailMax && lines() > bucketLines; d.others++ {
	}
	return d
}

// detailsOf chooses the details for the histograms that a page will have.
func detailsOf(s *telemetry.Snapshot, all []view) details {
	usual := len(telemetry.Bounds())
	replicas, others := 0, map[int]int{usual: len(s.Requests)}
	for i := range all {
		v := &all[i]
		if v.Calls.Ended() > 0 {
			others[usual]++
		}
		for _, k := range [...]telemetry.DurationCounts{
			v.waits(), v.Lifecycle.Startup, v.Lifecycle.Initialization, v.Lifecycle.Shutdown, v.Lifecycle.Reconfigure, v.Lifecycle.HealthCheck, v.Lifecycle.RoutingStats,
		} {
			if k.Count() > 0 {
				others[len(k.Bounds)]++
			}
		}
		for j := range v.replicas {
			if v.replicas[j].Calls.Started > 0 {
				replicas++
			}
		}
	}
	return fit(map[int]int{usual: replicas}, others)
}
