package trace

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Reported is a record as a worker sends it to its node. Ids are in hex, times are nanoseconds since 1970.
type Reported struct {
	Request    string         `json:"request"`
	Trace      string         `json:"trace,omitempty"`
	ID         string         `json:"id"`
	Parent     string         `json:"parent,omitempty"`
	App        string         `json:"app"`
	Deployment string         `json:"deployment"`
	Method     string         `json:"method,omitempty"`
	Replica    string         `json:"replica,omitempty"`
	Kind       string         `json:"kind"`
	Begin      int64          `json:"begin"`
	End        int64          `json:"end"`
	Sampled    bool           `json:"sampled,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Message    string         `json:"message,omitempty"`
	FailedAt   string         `json:"failed_at,omitempty"`
	Name       string         `json:"name,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
	Caller     string         `json:"caller,omitempty"`
	Links      []string       `json:"links,omitempty"` // spans of other calls, each behind its trace and a hyphen
	Root       bool           `json:"root,omitempty"`  // the outermost span of a program outside of methods
	Open       bool           `json:"open,omitempty"`  // the node decides whether it is sampled
}

func reported(r *Record) Reported {
	v := Reported{
		Request: r.Request.String(), ID: hexID(r.ID), Parent: hexID(r.Parent), App: r.Place.App, Deployment: r.Place.Deployment, Method: r.Place.Method,
		Replica: r.Replica, Kind: r.Kind.String(), Begin: r.Begin, End: r.End, Sampled: r.Sampled, Reason: r.Reason,
		Root: ofProgram(r) && r.Depth == 0, Open: r.Open,
	}
	if r.Trace != ([16]byte{}) {
		v.Trace = hex.EncodeToString(r.Trace[:])
	}
	if m := r.More; m != nil {
		v.Message, v.FailedAt, v.Name, v.Caller = m.Message, m.FailedAt, m.Name, hexID(m.Caller)
		for _, a := range m.Attributes {
			if v.Attributes == nil {
				v.Attributes = map[string]any{}
			}
			v.Attributes[a.Key] = a.Value
		}
		for _, l := range m.Links {
			v.Links = append(v.Links, hex.EncodeToString(l.Trace[:])+"-"+hexID(l.Span))
		}
	}
	return v
}

// Limits of what a worker reports. What is longer is cut.
const (
	maxReported   = 2048 // records of one report, and those that wait in a worker
	maxName       = 256  // bytes of a name, and of an attribute's key
	maxAttributes = 64
	maxLinks      = 128
)

var errReport = errors.New("a record that is wrong")

func parseSpan(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseUint(s, 16, 64)
}

func parseTrace(s string) (id [16]byte, err error) {
	if s == "" {
		return id, nil
	}
	if len(s) != 2*len(id) {
		return id, errReport
	}
	_, err = hex.Decode(id[:], []byte(s))
	return id, err
}

// record is the record of a report. It ends no request, because a node has seen the first call of each; only the outermost span of a program is one.
func (v *Reported) record() (r Record, err error) {
	kind := -1
	for k, name := range kinds {
		if name == v.Kind {
			kind = k
		}
	}
	if kind < 0 || Kind(kind) == HTTP || !call.ValidID(v.Request) || v.End < v.Begin || len(v.App) > maxMessage || len(v.Deployment) > maxMessage || len(v.Method) > maxMessage || len(v.Replica) > maxMessage || len(v.Reason) > maxName {
		return r, errReport
	}
	r = Record{
		Request: call.ParseID(v.Request), Place: &call.Place{App: v.App, Deployment: v.Deployment, Method: v.Method}, Replica: v.Replica,
		Kind: Kind(kind), Begin: v.Begin, End: v.End, Sampled: v.Sampled, Reason: v.Reason, Depth: 1,
	}
	var wrong [4]error
	var caller uint64
	if v.Root && ofProgram(&r) {
		r.Depth = 0
	}
	r.Trace, wrong[0] = parseTrace(v.Trace)
	r.ID, wrong[1] = parseSpan(v.ID)
	r.Parent, wrong[2] = parseSpan(v.Parent)
	caller, wrong[3] = parseSpan(v.Caller)
	if err := errors.Join(wrong[:]...); err != nil {
		return r, err
	}
	if v.Name == "" && v.Message == "" && v.FailedAt == "" && len(v.Attributes) == 0 && len(v.Links) == 0 && caller == 0 {
		return r, nil
	}
	r.More = &More{Name: clipTo(v.Name, maxName), Message: clip(v.Message), FailedAt: clip(v.FailedAt), Caller: caller}
	for _, key := range slices.Sorted(maps.Keys(v.Attributes)) {
		value := v.Attributes[key]
		if len(r.More.Attributes) == maxAttributes {
			break
		}
		switch x := value.(type) {
		case string:
			value = clip(x)
		case float64: // JSON has one kind of numbers
			if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
				value = int64(x)
			}
		case bool:
		default:
			value = clip(fmt.Sprint(x))
		}
		r.More.Attributes = append(r.More.Attributes, Attribute{clipTo(key, maxName), value})
	}
	for _, l := range v.Links[:min(len(v.Links), maxLinks)] {
		trace, span, _ := strings.Cut(l, "-")
		to, err1 := parseTrace(trace)
		id, err2 := parseSpan(span)
		if err := errors.Join(err1, err2); err != nil {
			return r, err
		}
		r.More.Links = append(r.More.Links, Link{to, id})
	}
	return r, nil
}

// Report takes the report of a worker. It takes nothing of a report with a mistake.
func (r *Recorder) Report(report json.RawMessage) error {
	if r == nil {
		return nil
	}
	var all []Reported
	if err := json.Unmarshal(report, &all); err != nil {
		return fmt.Errorf("the records of a worker: %w", err)
	}
	if len(all) > maxReported {
		return fmt.Errorf("%d records in a report of a worker, at most %d are possible", len(all), maxReported)
	}
	records := make([]Record, len(all))
	for i := range all {
		var err error
		if records[i], err = all[i].record(); err != nil {
			return fmt.Errorf("record %d in a report of a worker: %w", i, err)
		}
	}
	for i := range records {
		rec := &records[i]
		if all[i].Open && !rec.Sampled {
			if rec.Sampled = r.Samples(rec.TraceID()); !rec.Sampled && rec.Reason == "" && rec.Took() < Least {
				continue
			}
		}
		r.Record(*rec)
	}
	return nil
}

// reportAfter is how long the first record waits for others that go with it. Requests are kept for longer ([collectFor]) when their records still come.
const reportAfter = 100 * time.Millisecond

// Reporter sends the records of a worker to its node. It implements [Sink]. For example, a method that makes 500 calls inside its worker, of 2 ms each, leaves 500 records, which
// go in about ten reports. A worker whose node does not take them keeps none: they are of use for minutes only.
type Reporter struct {
	send func(json.RawMessage)

	mu      sync.Mutex
	waiting []Reported
	sending bool // a goroutine sends until nothing waits
}

// NewReporter makes a reporter. The function send is called by one goroutine at a time, beside Flush, and may block.
func NewReporter(send func(json.RawMessage)) *Reporter { return &Reporter{send: send} }

// Record takes a record. A record over the limit of those that wait is dropped.
func (p *Reporter) Record(r Record) {
	v := reported(&r)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) >= maxReported {
		return
	}
	p.waiting = append(p.waiting, v)
	if !p.sending {
		p.sending = true
		time.AfterFunc(reportAfter, p.flush)
	}
}

// Flush sends the records that wait, perhaps while another report is on its way.
func (p *Reporter) Flush() {
	p.mu.Lock()
	all := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	if len(all) == 0 {
		return
	}
	if b, err := json.Marshal(all); err == nil {
		p.send(b)
	}
}

func (p *Reporter) flush() {
	p.Flush()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sending = len(p.waiting) > 0; p.sending {
		time.AfterFunc(reportAfter, p.flush)
	}
}
