package metrics

import "github.com/helve-serve/helve/internal/telemetry"

// A histogram is a line for each of its buckets, so that 1,000 replicas with 20 buckets of latency each would be 2.6 MB of text at every scrape, and as many
// series in Prometheus. So a page shows fewer bounds of its histograms if it would be too large with all. The bounds that are left are the same for all replicas, or for all
// deployments: Prometheus adds the lines of one bound. A bucket counts all that is below its bound, so that a bound can be left out and those above it are right.
//
// For example, with the usual bounds 1,000 replicas of ten deployments show 5, 100, 500, 10000 and 600000 ms of each replica, and all 19 bounds of each deployment, or
// fewer if their names are long. A page of 300 replicas shows all of both. A page that leaves out bounds of replicas also leaves out two kinds of lines of a replica while they are
// 0, failed calls, and calls that run, as the router sees them; and memory and processor time of replicas.

// detail says which bounds are shown: all at 0, and about half as many at each number above it. The bounds of a larger number are among those of the smaller one,
// so that a quantile stays right while the number changes.
type detail int

// detailMax is the detail with the fewest bounds: 100 and 10000 ms of the usual ones.
const detailMax detail = 3

// pageBytes is the size of a page from which on bounds are left out: a page of 1,000 replicas stays below 2 MB. Metrics of programs, and of the process and the machine, are not in it.
const pageBytes = 1_850_000

// What the parts of a page take. TestSizes compares them with pages: a new family belongs into one of these numbers.
const (
	lineBytes       = 46 // name, braces and number of a line
	bucketBytes     = 63 // of a line of a bucket
	replicaLines    = 5  // of each replica
	smallLines      = 2  // of each replica, on pages that show all bounds, beside those that are left out elsewhere while they are 0
	deploymentLines = 17
	deploymentBytes = 12 // of a line of a deployment: its other labels
	requestLines    = 1
	transitionBytes = 75 // of a line of helve_transitions_total, beside its texts
	closingLines    = 3  // of a histogram: the infinite bucket, sum and count
)

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

// lifecycles is the detail of the histograms of a deployment that few alerts ask for, such as the times of starts: they lose bounds before its latencies do.
func (d details) lifecycles() detail {
	if d.others == 0 {
		return 0
	}
	return min(d.others+1, detailMax)
}

// sizes are the bytes of the parts of a page.
type sizes struct {
	rest, small int // lines that are no buckets: of all pages, and of pages that show all bounds

	replicas, lifecycles, others map[int]int // by number of bounds: one line of each histogram of replicas, of lifecycles, and of the other histograms
}

// of is the size of a page.
func (s *sizes) of(d details) int {
	n := s.rest
	if d.replicas.zeros() {
		n += s.small
	}
	for _, part := range [...]struct {
		lines map[int]int
		shown detail
	}{{s.replicas, d.replicas}, {s.lifecycles, d.lifecycles()}, {s.others, d.others}} {
		for bounds, line := range part.lines {
			n += line * part.shown.of(bounds).lines(bounds)
		}
	}
	return n
}

// add adds a histogram.
func (s *sizes) add(to map[int]int, bounds, labels int) {
	to[bounds] += bucketBytes + labels
	s.rest += closingLines * (bucketBytes + labels)
}

// fit chooses the details of a page. The bounds of replicas are left out first.
func (s *sizes) fit() (d details) {
	for ; d.replicas < detailMax && s.of(d) > pageBytes; d.replicas++ {
	}
	for ; d.others < detailMax && s.of(d) > pageBytes; d.others++ {
	}
	return d
}

// sizesOf adds up the sizes of the page of a node.
func sizesOf(s *telemetry.Snapshot, all []view) *sizes {
	usual := len(telemetry.Bounds())
	page := &sizes{replicas: map[int]int{}, lifecycles: map[int]int{}, others: map[int]int{}}
	for i := range s.Requests {
		q := &s.Requests[i]
		labels := len(`application="",method="",route="",status_code="200"`) + len(q.Application) + len(q.Method) + len(q.Route)
		page.rest += requestLines * (lineBytes + labels)
		page.add(page.others, usual, labels)
	}
	for i := range s.Transitions {
		t := &s.Transitions[i]
		page.rest += transitionBytes + len(t.Application) + len(t.Deployment) + len(t.Kind) + len(t.Reason)
	}
	for i := range all {
		v := &all[i]
		labels := len(v.labels)
		page.rest += (deploymentLines + min(len(v.Origins), originsMax)) * (lineBytes + labels + deploymentBytes)
		for _, c := range callers(v.Callers) {
			page.rest += callerLines * (lineBytes + labels + len(`,caller=""`) + len(callerName(c)))
		}
		if v.Calls.Started > 0 {
			page.add(page.others, usual, labels)
		}
		if k := v.waits(); k.Count() > 0 {
			page.add(page.others, len(k.Bounds), labels)
		}
		for _, k := range [...]telemetry.DurationCounts{
			v.Lifecycle.Startup, v.Lifecycle.Initialization, v.Lifecycle.Shutdown, v.Lifecycle.Reconfigure, v.Lifecycle.HealthCheck, v.Lifecycle.RoutingStats, v.Lifecycle.AutoscalingStats,
		} {
			if k.Count() > 0 {
				page.add(page.lifecycles, len(k.Bounds), labels)
			}
		}
		for j := range v.replicas {
			r := &v.replicas[j]
			line := lineBytes + len(r.labels)
			page.rest += replicaLines * line
			page.small += smallLines * line
			for _, n := range [...]uint64{r.Calls.Failed + r.Calls.Cancelled, uint64(max(r.Running, 0))} {
				if n > 0 {
					page.rest += line
				} else {
					page.small += line
				}
			}
			if r.Calls.Started > 0 {
				page.add(page.replicas, usual, len(r.routed))
			}
		}
	}
	return page
}

// detailsOf chooses the details for the page of a node.
func detailsOf(s *telemetry.Snapshot, all []view) details { return sizesOf(s, all).fit() }
