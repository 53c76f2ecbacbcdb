package telemetry

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
)

// The kinds of metrics that programs have.
const (
	Counter   = "counter"
	Gauge     = "gauge"
	Histogram = "histogram"
)

// The bounds of one metric.
const (
	userName   = 200     // bytes of a name, of a key and of a value of a tag
	userHelp   = 1 << 10 // bytes of a description; a longer one is cut
	userTags   = 32      // tags of a series
	userBounds = 200     // of a histogram
)

// userLimits bound the series of one process, the series of a node, and the bytes of their texts.
type userLimits struct{ source, node, bytes int }

// UserMetrics are the metrics that the programs in workers and drivers have defined: counters, gauges and histograms, as their processes
// report them. A report has the present values of the series that have changed since the last one, so that a scrape asks no process.
//
// When a process ends, its gauges go. Its counters and histograms are added to a series whose tag "replica" is empty, so that a sum over the
// replicas never goes back. For example, replicas D#1 and D#2 have counted 5 and 7, and D#1 ends: the series are replica="" with 5 and
// replica="D#2" with 7.
//
// The methods are safe for concurrent use.
type UserMetrics struct {
	refused func(why string)
	limits  userLimits

	mu       sync.Mutex
	families map[string]*userFamily // by the exported name
	texts    map[string]*userFamily // by the names that the lines of the text format have
	series   int
	bytes    int
	turn     uint64 // number of the last change of a gauge
}

// userFamily is the metrics of one name.
type userFamily struct {
	UserFamily
	sources map[*UserSource]map[string]*userSeries
	ended   map[string]*userSeries // of processes that have ended
}

type userSeries struct {
	UserSample
	report uint64 // number of the report that had it
	turn   uint64
	size   int
}

// UserFamily is all series of one name.
type UserFamily struct {
	Name, Help, Kind string // Name has the suffix _total for a counter
	Series           []UserSample
}

// UserSample is one series. A histogram has Bounds, Buckets and Sum; Buckets has one number more than Bounds, and is not cumulative.
type UserSample struct {
	Keys, Values []string
	Value        float64
	Bounds       []float64
	Buckets      []uint64
	Sum          float64
}

// NewUserMetrics makes an empty table. refused gets the reason when a process reports a metric that is not kept, once for each process.
func NewUserMetrics(refused func(why string)) *UserMetrics {
	return &UserMetrics{refused: refused, limits: userLimits{source: 2_000, node: 20_000, bytes: 16 << 20}, families: map[string]*userFamily{}, texts: map[string]*userFamily{}}
}

// UserSource is one process that reports.
type UserSource struct {
	table  *UserMetrics
	series int
	closed bool
	warned bool
	folded map[foldedKey]*userSeries // that are counted among those of ended processes
}

type foldedKey struct{ family, series string }

// Source makes the place for the reports of one process. Close it when the process has ended.
func (u *UserMetrics) Source() *UserSource { return &UserSource{table: u} }

// userMetric is a metric of a report as it travels.
type userMetric struct {
	Name   string    `json:"name"`
	Kind   string    `json:"kind"`
	Help   string    `json:"help"`
	Keys   []string  `json:"keys"`
	Bounds []float64 `json:"bounds"`
	Series []struct {
		Values  []string   `json:"values"`
		Value   userNumber `json:"value"`
		Buckets []uint64   `json:"buckets"`
		Sum     userNumber `json:"sum"`
	} `json:"series"`
}

// userNumber is a number in JSON, or one of "NaN", "Infinity" and "-Infinity", which JSON does not have.
type userNumber float64

// MarshalJSON writes a number of JSON, or one of the three texts.
func (n userNumber) MarshalJSON() ([]byte, error) {
	switch v := float64(n); {
	case math.IsNaN(v):
		return []byte(`"NaN"`), nil
	case math.IsInf(v, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-Infinity"`), nil
	}
	return json.Marshal(float64(n))
}

func (n *userNumber) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"NaN"`:
		*n = userNumber(math.NaN())
	case `"Infinity"`:
		*n = userNumber(math.Inf(1))
	case `"-Infinity"`:
		*n = userNumber(math.Inf(-1))
	default:
		return json.Unmarshal(b, (*float64)(n))
	}
	return nil
}

// Report takes a report: a JSON array of metrics. Reports may come out of order; a series keeps the values of the report with
// the largest number. An error says that the report is malformed. A single metric that cannot be kept is left out.
func (s *UserSource) Report(number uint64, metrics []byte) error {
	var all []userMetric
	if err := json.Unmarshal(metrics, &all); err != nil {
		return fmt.Errorf("a report of metrics: %w", err)
	}
	if why := s.reportAll(number, all); why != "" {
		s.table.refused(why)
	}
	return nil
}

// reportAll gives the reason of the first refusal of the process; "" for none, or for a later one.
func (s *UserSource) reportAll(number uint64, all []userMetric) (refusal string) {
	refuse := func(why string) {
		if !s.warned {
			s.warned, refusal = true, why
		}
	}
	u := s.table
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, m := range all {
		why := checkMetric(m.Name, m.Kind, m.Keys, m.Bounds)
		var f *userFamily
		if why == "" {
			f, why = u.familyLocked(m.Name, m.Kind, m.Help)
		}
		if why != "" {
			refuse(fmt.Sprintf("metric %.80q: %s", m.Name, why))
			continue
		}
		for _, x := range m.Series {
			v := UserSample{Keys: m.Keys, Values: x.Values, Value: float64(x.Value), Bounds: m.Bounds, Buckets: x.Buckets, Sum: float64(x.Sum)}
			if why := s.putLocked(f, v, number); why != "" {
				refuse(fmt.Sprintf("metric %.80q: %s", m.Name, why))
			}
		}
		u.dropLocked(f)
	}
	if s.closed { // the last report of a process may be read after its connection has ended
		s.foldLocked()
	}
	return refusal
}

func checkMetric(name, kind string, keys []string, bounds []float64) (why string) {
	if len(name) > userName || !isName(name, true) {
		return "the name is not letters, digits, _ and :"
	}
	if kind != Counter && kind != Gauge && kind != Histogram {
		return "there is no such kind of metric"
	}
	if len(keys) > userTags {
		return fmt.Sprintf("it has %d tags, at most %d are kept", len(keys), userTags)
	}
	for i, k := range keys {
		if len(k) > userName || !isName(k, false) || strings.HasPrefix(k, "__") || kind == Histogram && k == "le" || slices.Contains(keys[:i], k) {
			return fmt.Sprintf("%.80q is no key of a tag, or is there twice", k)
		}
	}
	if (kind == Histogram) != (len(bounds) > 0) || len(bounds) > userBounds {
		return fmt.Sprintf("it has %d boundaries; a histogram has 1 to %d, other metrics have none", len(bounds), userBounds)
	}
	for i, b := range bounds {
		if i > 0 && !(b > bounds[i-1]) {
			return "its boundaries do not grow"
		}
	}
	return ""
}

// isName reports whether s is a name of the text format.
func isName(s string, colon bool) bool {
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == ':' && colon
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// familyLocked finds or makes the family of a metric. Two metrics whose lines would have the same name cannot both be kept.
func (u *UserMetrics) familyLocked(name, kind, help string) (f *userFamily, why string) {
	if kind == Counter {
		name = strings.TrimSuffix(name, "_total") + "_total"
	}
	texts := []string{name}
	if kind == Histogram {
		texts = append(texts, name+"_bucket", name+"_sum", name+"_count")
	}
	if f := u.families[name]; f != nil && f.Kind == kind {
		return f, ""
	}
	for _, t := range texts {
		if other := u.texts[t]; other != nil {
			return nil, fmt.Sprintf("the %s %s has this name", other.Kind, other.Name)
		}
	}
	if u.series >= u.limits.node {
		return nil, tooMany(u.limits.node, "the node")
	}
	f = &userFamily{
		UserFamily: UserFamily{Name: name, Kind: kind, Help: strings.ToValidUTF8(help[:min(len(help), userHelp)], "")},
		sources:    map[*UserSource]map[string]*userSeries{}, ended: map[string]*userSeries{},
	}
	u.families[name] = f
	for _, t := range texts {
		u.texts[t] = f
	}
	return f, ""
}

func tooMany(n int, of string) string {
	return fmt.Sprintf("more than %d series of metrics in %s: use tags that have fewer values", n, of)
}

func (s *UserSource) putLocked(f *userFamily, v UserSample, report uint64) (why string) {
	if len(v.Values) != len(v.Keys) {
		return "a series has another number of tags than its metric"
	}
	for _, t := range v.Values {
		if len(t) > userName {
			return fmt.Sprintf("a tag of more than %d bytes", userName)
		}
	}
	if f.Kind == Histogram && len(v.Buckets) != len(v.Bounds)+1 || f.Kind != Histogram && (len(v.Buckets) > 0 || v.Sum != 0) {
		return "a series without its buckets, or with buckets that are not its"
	}
	if f.Kind == Counter && !(v.Value >= 0) {
		return "a counter with a negative value"
	}
	u, key := s.table, keyOf(v)
	had := f.sources[s][key]
	if had == nil {
		size := len(key) + 16*len(v.Buckets)
		switch {
		case s.series >= u.limits.source:
			return tooMany(u.limits.source, "one process")
		case u.series >= u.limits.node:
			return tooMany(u.limits.node, "the node")
		case u.bytes+size > u.limits.bytes:
			return fmt.Sprintf("the texts of all series of the node have more than %d bytes", u.limits.bytes)
		}
		if f.sources[s] == nil {
			f.sources[s] = map[string]*userSeries{}
		}
		had = &userSeries{size: size}
		f.sources[s][key] = had
		s.series++
		u.series++
		u.bytes += size
	} else if report < had.report {
		return ""
	}
	u.turn++
	had.UserSample, had.report, had.turn = v, report, u.turn
	return ""
}

// keyOf tells series of one name apart: by their tags in any order, and the boundaries.
func keyOf(v UserSample) string {
	order := make([]int, len(v.Keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(v.Keys[a], v.Keys[b]) })
	var b strings.Builder
	for _, i := range order {
		if v.Values[i] != "" { // for Prometheus a tag without a value is absent
			fmt.Fprintf(&b, "%s=%q,", v.Keys[i], v.Values[i])
		}
	}
	for _, x := range v.Bounds {
		fmt.Fprintf(&b, "%g,", x)
	}
	return b.String()
}

// Close says that the process has ended.
func (s *UserSource) Close() {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.closed = true
	s.foldLocked()
}

// foldLocked adds the counts of the process to the series of processes that have ended. A report that comes after the end has the counts since the
// start of the process, so that only the difference is added. For example, a driver has reported 7 and ends, and its last report, which says 9, is read
// after that: 2 are added.
func (s *UserSource) foldLocked() {
	u := s.table
	for _, f := range u.families {
		for key, had := range f.sources[s] {
			u.series--
			u.bytes -= had.size
			if f.Kind == Gauge {
				continue
			}
			v := had.UserSample
			v.Buckets = slices.Clone(v.Buckets)
			id := foldedKey{f.Name, key}
			if last := s.folded[id]; last != nil {
				if had.report < last.report {
					continue
				}
				v.subtract(last.UserSample)
			}
			if s.folded == nil {
				s.folded = map[foldedKey]*userSeries{}
			}
			s.folded[id] = had
			if i := slices.Index(v.Keys, "replica"); i >= 0 {
				v.Values = slices.Clone(v.Values)
				v.Values[i] = ""
			}
			ended := keyOf(v)
			if sum := f.ended[ended]; sum != nil {
				sum.add(v)
				continue
			}
			f.ended[ended] = &userSeries{UserSample: v, size: had.size}
			u.series++
			u.bytes += had.size
		}
		delete(f.sources, s)
		u.dropLocked(f)
	}
	s.series = 0
}

// dropLocked forgets a family without series: its name may be another metric's.
func (u *UserMetrics) dropLocked(f *userFamily) {
	if len(f.sources) == 0 && len(f.ended) == 0 {
		delete(u.families, f.Name)
		maps.DeleteFunc(u.texts, func(_ string, of *userFamily) bool { return of == f })
	}
}

func (s *userSeries) add(v UserSample) {
	s.Value += v.Value
	s.Sum += v.Sum
	for i, n := range v.Buckets {
		s.Buckets[i] += n
	}
}

func (v *UserSample) subtract(o UserSample) {
	v.Value = max(v.Value-o.Value, 0)
	v.Sum -= o.Sum
	for i, n := range o.Buckets {
		v.Buckets[i] -= min(n, v.Buckets[i])
	}
}

// Families are all series now, sorted by name. Counters and histograms of several processes with the same tags are one series with their
// sum; of gauges it is the value that was reported last.
func (u *UserMetrics) Families() []UserFamily {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []UserFamily
	for _, name := range slices.Sorted(maps.Keys(u.families)) {
		f := u.families[name]
		sums := map[string]*userSeries{}
		for key, x := range f.ended {
			sums[key] = x.clone()
		}
		for _, series := range f.sources {
			for key, x := range series {
				switch had := sums[key]; {
				case had == nil:
					sums[key] = x.clone()
				case f.Kind != Gauge:
					had.add(x.UserSample)
				case x.turn > had.turn:
					sums[key] = x.clone()
				}
			}
		}
		out := f.UserFamily
		tags := map[string]bool{}
		for _, key := range slices.Sorted(maps.Keys(sums)) {
			x := sums[key].UserSample
			// Histograms with other boundaries and the same tags are one series for Prometheus, which would refuse all: the first is shown.
			id := keyOf(UserSample{Keys: x.Keys, Values: x.Values})
			if !tags[id] {
				tags[id] = true
				out.Series = append(out.Series, x)
			}
		}
		if len(out.Series) > 0 {
			all = append(all, out)
		}
	}
	return all
}

// loopFamily is the histogram of the delays of event loops, as the processes of replicas in Python report it.
const loopFamily = "serve_event_loop_scheduling_latency_ms"

// LoopDelays are by how much timers of the event loops of replicas were late, by the ids of the replicas that run.
func (u *UserMetrics) LoopDelays() map[string]LoopDelays {
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.families[loopFamily]
	if f == nil || f.Kind != Histogram {
		return nil
	}
	all := make(map[string]LoopDelays, len(f.sources))
	for _, series := range f.sources {
		for _, x := range series {
			i := slices.Index(x.Keys, "replica")
			if i < 0 || x.Values[i] == "" {
				continue
			}
			d := all[x.Values[i]]
			d.Sum += x.Sum
			for _, n := range x.Buckets {
				d.Number += n
			}
			all[x.Values[i]] = d
		}
	}
	return all
}

func (s *userSeries) clone() *userSeries {
	c := *s
	c.Buckets = slices.Clone(s.Buckets)
	return &c
}
