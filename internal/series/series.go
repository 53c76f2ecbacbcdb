// Package series keeps the numbers of a node, its applications, deployments and replicas of the last hour, so that a chart is not empty when it is opened.
//
// A [Recorder] is given the counts of all objects every few seconds ([Look]), and keeps for each object a row of numbers for the step of time between two looks: rates and latencies from the differences of the counts, and numbers of that moment, such as calls that wait. For example, a deployment has ended 100 calls at one look and 150 calls at the next one, 5 s later: its
// rate in this step is 10 a second.
//
// Rows are in blocks of five minutes. A block that is older than an hour goes, and so do the oldest blocks of all objects if there would be more than [Budget] bytes: a node with very many
// objects has less than an hour of each. Objects that are gone stay until their last block goes. The rows end with the node.
//
// Time is counted by a clock that no operator sets, so that a step never comes twice or is lost when the clock of the machine is set; the times of day come from the present time of a question.
package series

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/telemetry"
)

const (
	// Step is the time of a row.
	Step = 5 * time.Second
	// Hour is the time for which rows are kept.
	Hour = time.Hour
	// Budget is the most memory, in bytes, that the rows may take.
	Budget = 28 << 20

	rows      = int(Hour / Step)
	blockRows = 60
	// An object takes about so much beside its numbers, and a block too: maps, slices, counts of the last look.
	objectOverhead = 512
	blockOverhead  = 64
)

// Kind is the kind of an object, which has columns of its own.
type Kind uint8

// The kinds.
const (
	Node Kind = iota
	Application
	Deployment
	Replica
)

// columns are the columns of each kind. The first two are rates of [Look.Ended] and [Look.Failed]; of an object with latencies the next three are these, and the others are [Look.Now].
//
//nolint:gochecknoglobals // constants
var columns = [...][]string{
	Node: {
		helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnP50, helvetype.ColumnP90, helvetype.ColumnP99, helvetype.ColumnRunning, helvetype.ColumnMemory,
		helvetype.ColumnCPU, helvetype.ColumnGoroutines, helvetype.ColumnMachineCPU, helvetype.ColumnMachineMemory,
	},
	Application: {helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnP50, helvetype.ColumnP90, helvetype.ColumnP99, helvetype.ColumnRunning},
	Deployment: {
		helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnP50, helvetype.ColumnP90, helvetype.ColumnP99, helvetype.ColumnQueued, helvetype.ColumnRunning,
		helvetype.ColumnReady, helvetype.ColumnWanted,
	},
	Replica: {helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnRunning, helvetype.ColumnMemory, helvetype.ColumnCPU, helvetype.ColumnLoopDelay},
}

// quantiles are the parts of the calls that the three columns of latencies tell.
var quantiles = [...]float64{0.5, 0.9, 0.99} //nolint:gochecknoglobals // a constant

// Name names an object: the node has no name, an application has App, a deployment has App and Deployment, and a replica all three.
type Name struct{ App, Deployment, Replica string }

func (n Name) kind() Kind {
	switch {
	case n.Replica != "":
		return Replica
	case n.Deployment != "":
		return Deployment
	case n.App != "":
		return Application
	}
	return Node
}

// Look is an object at one moment.
type Look struct {
	Name
	// Ended and Failed are the calls, or requests, that have ended so far, and how many of them have failed.
	Ended, Failed uint64
	// Latency has the calls that have ended by latency; nil for a replica. Longest is the longest call since the look before, or a little earlier; 0 where it is not known.
	Latency *telemetry.Counts
	Longest time.Duration
	// Now has the other columns of the kind, in their order; NaN for a number that is not known.
	Now []float64
}

// Recorder keeps the rows. Its methods may be called from any goroutine. Make one with [New].
type Recorder struct {
	mu      sync.Mutex
	budget  int
	bytes   int
	looked  bool          // once at least
	at      time.Duration // of the last look
	newest  int           // the step before the last look
	oldest  int           // no block has a smaller number
	objects map[Name]*object
	row     []float64 // of the object that Record adds a row to
}

type object struct {
	kind          Kind
	seen          time.Duration // the time of the last look that had it
	ended, failed uint64        // at that look
	latency       [telemetry.Buckets]uint64
	blocks        []block // the oldest first
}

// block has the rows of the steps from number*blockRows on, column by column.
type block struct {
	number  int
	numbers []number
}

// New makes an empty recorder that takes at most budget bytes, such as [Budget].
func New(budget int) *Recorder { return &Recorder{budget: budget, objects: map[Name]*object{}} }

// Record adds a row for each of all objects of the node. at is the time since the start of the recorder, by a clock that is never set, and larger than that of the look before.
func (r *Recorder) Record(at time.Duration, all []Look) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, first := r.at, !r.looked
	r.newest = max(int((at+Step/2)/Step)-1, 0)
	r.at, r.looked = at, true
	for i := range all {
		l := &all[i]
		o := r.objects[l.Name]
		if o == nil {
			if r.bytes > r.budget { // with the newest block of each object alone: there are too many objects
				continue
			}
			o = &object{kind: l.kind(), seen: before}
			o.failed = l.Failed - min(l.Failed, l.Ended) // failures without an end are of replicas that were taken over
			r.objects[l.Name] = o
			r.bytes += objectOverhead
			if first { // calls before it have no time
				o.look(l, at)
			}
		}
		r.row = o.row(r.row[:0], l, at, before)
		r.put(o, r.row)
		o.look(l, at)
	}
	r.dropLocked(r.newest - rows)
	for r.bytes > r.budget {
		oldest := r.oldestLocked()
		if oldest == r.newest/blockRows {
			break
		}
		r.dropLocked((oldest+1)*blockRows - 1)
	}
}

// look remembers the counts of a look.
func (o *object) look(l *Look, at time.Duration) {
	o.seen, o.ended, o.failed = at, l.Ended, l.Failed
	if l.Latency != nil {
		o.latency = l.Latency.Buckets
	}
}

// row adds the row of an object between two looks to out, which is empty. Rates are unknown after the first look, where the object was not at the look before, and where its counts have begun anew.
func (o *object) row(out []float64, l *Look, at, before time.Duration) []float64 {
	took := (at - o.seen).Seconds()
	known := took > 0 && o.seen == before && l.Ended >= o.ended
	if ended := l.Ended - min(o.ended, l.Ended); known {
		failed := min(l.Failed-min(o.failed, l.Failed), ended)
		out = append(out, float64(ended)/took, float64(failed)/took)
	} else {
		out = append(out, math.NaN(), math.NaN())
	}
	if o.kind != Replica {
		var between telemetry.Counts
		if known && l.Latency != nil {
			between = l.Latency.Since(&telemetry.Counts{Buckets: o.latency})
		}
		for _, q := range quantiles {
			out = append(out, between.Quantile(q, l.Longest))
		}
	}
	out = append(out, l.Now...)
	for len(out) < len(columns[o.kind]) {
		out = append(out, math.NaN())
	}
	return out[:len(columns[o.kind])]
}

// put keeps a row.
func (r *Recorder) put(o *object, row []float64) {
	n := r.newest / blockRows
	if last := len(o.blocks) - 1; last < 0 || o.blocks[last].number != n {
		b := block{n, make([]number, blockRows*len(row))}
		for i := range b.numbers {
			b.numbers[i] = unknown
		}
		o.blocks = append(o.blocks, b)
		r.bytes += b.size()
	}
	b := &o.blocks[len(o.blocks)-1]
	for c, v := range row {
		b.numbers[c*blockRows+r.newest%blockRows] = pack(v)
	}
}

func (b *block) size() int { return 2*len(b.numbers) + blockOverhead }

// dropLocked drops the blocks whose last step is at most a step, and objects that have none left. Between two looks there is seldom a block to drop, and it looks at no object then.
func (r *Recorder) dropLocked(step int) {
	if (step+1)/blockRows <= r.oldest {
		return
	}
	r.oldest = (step + 1) / blockRows
	for name, o := range r.objects {
		n := 0
		for n < len(o.blocks) && (o.blocks[n].number+1)*blockRows-1 <= step {
			r.bytes -= o.blocks[n].size()
			n++
		}
		if n > 0 {
			o.blocks = slices.Delete(o.blocks, 0, n)
		}
		if len(o.blocks) == 0 {
			delete(r.objects, name)
			r.bytes -= objectOverhead
		}
	}
}

func (r *Recorder) oldestLocked() int {
	oldest := r.newest / blockRows
	for _, o := range r.objects {
		oldest = min(oldest, o.blocks[0].number)
	}
	return oldest
}

// Read gives the numbers of an object in the last hour, or of the last time if that is shorter. now is the time of day, and at the time as [Recorder.Record] has it. false: the recorder does not
// know the object.
func (r *Recorder) Read(name Name, now time.Time, at, last time.Duration) (s helvetype.Series, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.objects[name]
	if o == nil {
		return s, false
	}
	first := max(o.blocks[0].number*blockRows, r.newest-rows+1)
	if from := int((at - last) / Step); last < Hour {
		first = min(max(first, from), r.newest+1)
	}
	s = helvetype.Series{
		Step: Step.Seconds(), From: now.Add(time.Duration(first)*Step - at).UTC().Truncate(time.Millisecond),
		Columns: map[string][]*float64{}, Units: map[string]string{},
	}
	for c, column := range columns[o.kind] {
		all := make([]*float64, r.newest+1-first)
		for _, b := range o.blocks {
			for i := range blockRows {
				at := b.number*blockRows + i - first
				if at < 0 || at >= len(all) {
					continue
				}
				if n := b.numbers[c*blockRows+i]; n != unknown {
					all[at] = new(n.value())
				}
			}
		}
		s.Columns[column], s.Units[column] = all, Unit(column)
	}
	return s, true
}

// Empty is the answer for an object that has begun since the last look: it has all columns, without a number.
func Empty(name Name, now time.Time) helvetype.Series {
	s := helvetype.Series{Step: Step.Seconds(), From: now.UTC().Truncate(time.Millisecond), Columns: map[string][]*float64{}, Units: map[string]string{}}
	for _, column := range columns[name.kind()] {
		s.Columns[column], s.Units[column] = []*float64{}, Unit(column)
	}
	return s
}

// Unit is the unit of a column; "" for a count.
func Unit(column string) string {
	switch column {
	case helvetype.ColumnRate, helvetype.ColumnErrorRate, helvetype.ColumnRejectedRate:
		return "1/s"
	case helvetype.ColumnP50, helvetype.ColumnP90, helvetype.ColumnP99, helvetype.ColumnWait, helvetype.ColumnLoopDelay:
		return "ms"
	case helvetype.ColumnMemory, helvetype.ColumnMachineMemory:
		return "bytes"
	case helvetype.ColumnCPU, helvetype.ColumnMachineCPU:
		return "%"
	}
	return ""
}
