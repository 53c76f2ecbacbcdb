package telemetry

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// programPeriod is the time between two reports of a program, and programSeries the number of series that it may have: the node keeps no more of one process.
const (
	programPeriod = time.Second
	programSeries = 2_000
)

// Program has the metrics that the code of one replica in Go has defined. A change sets a number in memory; once a second at most, the series that have changed
// since the last report go to the node, with their present values. For example, 10,000 additions within a second are one number of one report. The
// methods may be called from any goroutine.
type Program struct {
	keys, values []string // tags of every series: the application, the deployment, the replica

	mu        sync.Mutex
	metrics   map[string]*ProgramMetric // by kind and name
	series    int
	changed   map[*programSample]bool
	number    uint64 // of the last report
	scheduled bool
	send      func(number uint64, metrics []byte)
}

// NewProgram makes an empty Program for a replica.
func NewProgram(app, deployment, replica string) *Program {
	return &Program{
		keys: []string{"application", "deployment", "replica"}, values: []string{app, deployment, replica},
		metrics: map[string]*ProgramMetric{}, changed: map[*programSample]bool{},
	}
}

// ProgramMetric is one metric of a [Program]. The methods of a nil ProgramMetric do nothing.
type ProgramMetric struct {
	of               *Program
	kind, name, help string
	keys             []string
	bounds           []float64
	series           map[string]*programSample // by the values of the keys
}

type programSample struct {
	metric  *ProgramMetric
	values  []string
	value   float64
	buckets []uint64
}

// Metric finds or makes a metric. Two metrics of one name and kind are the same; the first has the say about keys and bounds. kind is one of the constants
// of this package. A name or key that the node does not keep is logged there. The Program may be nil: then the metric is nil too.
func (p *Program) Metric(kind, name, help string, bounds []float64, keys []string) *ProgramMetric {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := kind + " " + name
	m := p.metrics[id]
	if m == nil {
		m = &ProgramMetric{of: p, kind: kind, name: name, help: help, keys: slices.Clone(keys), series: map[string]*programSample{}}
		if kind == Histogram {
			m.bounds = slices.Clone(bounds)
		}
		p.metrics[id] = m
	}
	return m
}

// Add adds to a counter. The values are those of the keys, in order. A number that is not above 0 adds nothing, because a counter does not fall.
func (m *ProgramMetric) Add(v float64, values []string) {
	if v > 0 {
		m.change(values, func(s *programSample) { s.value += v })
	}
}

// Set sets a gauge.
func (m *ProgramMetric) Set(v float64, values []string) {
	m.change(values, func(s *programSample) { s.value = v })
}

// Observe counts a number in its bucket of a histogram.
func (m *ProgramMetric) Observe(v float64, values []string) {
	m.change(values, func(s *programSample) {
		i, _ := slices.BinarySearch(m.bounds, v)
		s.buckets[i]++
		s.value += v
	})
}

// change changes a series. A series above the bound is not kept.
func (m *ProgramMetric) change(values []string, f func(*programSample)) {
	if m == nil {
		return
	}
	key := ""
	if len(values) == 1 {
		key = values[0]
	} else if len(values) > 1 {
		key = strings.Join(values, "\xff")
	}
	p := m.of
	p.mu.Lock()
	defer p.mu.Unlock()
	s := m.series[key]
	if s == nil {
		if p.series == programSeries {
			return
		}
		p.series++
		s = &programSample{metric: m, values: slices.Clone(values)}
		if m.kind == Histogram {
			s.buckets = make([]uint64, len(m.bounds)+1)
		}
		m.series[key] = s
	}
	f(s)
	p.changed[s] = true
	p.scheduleLocked()
}

// scheduleLocked has a report made a second from now, unless that is to happen already.
func (p *Program) scheduleLocked() {
	if p.send != nil && !p.scheduled && len(p.changed) > 0 {
		p.scheduled = true
		time.AfterFunc(programPeriod, p.Flush)
	}
}

// ReportTo sends all series, and from then on the changes. send is called by one goroutine at a time or by several; reports are numbered. It replaces the function of before: the node is
// another one, which knows nothing.
func (p *Program) ReportTo(send func(number uint64, metrics []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.send = send
	for _, m := range p.metrics {
		for _, s := range m.series {
			p.changed[s] = true
		}
	}
	p.scheduleLocked()
}

// Flush sends the changes now.
func (p *Program) Flush() {
	p.mu.Lock()
	p.scheduled = false
	send, number, report := p.send, p.number+1, []byte(nil)
	if send != nil && len(p.changed) > 0 {
		p.number = number
		report = p.reportLocked()
		clear(p.changed)
	}
	p.mu.Unlock()
	if report != nil {
		send(number, report)
	}
}

// programReport is a metric of a report as it travels: see userMetric.
type programReport struct {
	Name   string        `json:"name"`
	Kind   string        `json:"kind"`
	Help   string        `json:"help"`
	Keys   []string      `json:"keys"`
	Bounds []float64     `json:"bounds,omitempty"`
	Series []programLine `json:"series"`
}

type programLine struct {
	Values  []string   `json:"values"`
	Value   userNumber `json:"value"`
	Buckets []uint64   `json:"buckets,omitempty"`
	Sum     userNumber `json:"sum"`
}

func (p *Program) reportLocked() []byte {
	byMetric := map[*ProgramMetric]*programReport{}
	var all []*programReport
	for s := range p.changed {
		m := s.metric
		r := byMetric[m]
		if r == nil {
			r = &programReport{Name: m.name, Kind: m.kind, Help: m.help, Keys: slices.Concat(m.keys, p.keys), Bounds: m.bounds}
			byMetric[m] = r
			all = append(all, r)
		}
		line := programLine{Values: slices.Concat(s.values, p.values), Buckets: s.buckets}
		if m.kind == Histogram {
			line.Sum = userNumber(s.value)
		} else {
			line.Value = userNumber(s.value)
		}
		r.Series = append(r.Series, line)
	}
	b, err := json.Marshal(all)
	if err != nil { // names and numbers always encode
		panic(err)
	}
	return b
}
