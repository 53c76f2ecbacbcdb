package metrics

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/telemetry"
)

// The kinds of families, as the text formats name them.
const (
	counter   = telemetry.Counter
	gauge     = telemetry.Gauge
	histogram = telemetry.Histogram
)

// page is an answer that grows: families of metrics in Prometheus' text format or, if open is set, in OpenMetrics. They differ in three points: in
// OpenMetrics a counter is described without the suffix _total of its lines, numbers have a point, and buckets may have exemplars.
//
// client_golang can write both, but makes objects of every line first: with 1,000 replicas to make the objects took several times as long as to write the lines.
type page struct {
	b    []byte
	open bool

	head             bool // the family below is not described yet: a family without lines is not shown
	name, kind, help string

	texts []string // of the ends of buckets of the last histogram, and where its bounds are
	of    *float64

	names map[string]bool // of all families so far, without the suffixes of histograms
}

// family begins a family. Its lines follow.
func (p *page) family(name, kind, help string) {
	p.head, p.name, p.kind, p.help = true, name, kind, help
	p.names[baseOf(name)] = true
}

// line writes a number. labels are in the text format already: application="a",deployment="b"; "" for none.
func (p *page) line(labels string, v float64) {
	p.begin("", labels, "")
	p.b = append(p.number(v), '\n')
}

// whole is line for a number without a fraction.
func (p *page) whole(labels string, n uint64) {
	p.begin("", labels, "")
	p.b = append(strconv.AppendUint(p.b, n, 10), '\n')
}

// histogram writes the lines of a histogram. bounds are the upper ends of the buckets, without the infinite one; buckets are not cumulative. shown says which of
// them have a line; exemplars may be nil.
func (p *page) histogram(labels string, bounds []float64, buckets []uint64, sum float64, shown detail, exemplars []telemetry.Exemplar) {
	var n uint64
	var newest telemetry.Exemplar // since the line before
	ends := p.ends(bounds)
	shown = shown.of(len(bounds))
	for i, count := range buckets {
		n += count
		if i < len(exemplars) && exemplars[i].At.After(newest.At) {
			newest = exemplars[i]
		}
		if i < len(bounds) && !shown.shows(i) {
			continue
		}
		p.begin("_bucket", labels, ends[i])
		p.b = strconv.AppendUint(p.b, n, 10)
		if p.open && !newest.At.IsZero() {
			p.exemplar(newest)
		}
		p.b, newest = append(p.b, '\n'), telemetry.Exemplar{}
	}
	p.begin("_sum", labels, "")
	p.b = append(p.number(sum), '\n')
	p.begin("_count", labels, "")
	p.b = append(strconv.AppendUint(p.b, n, 10), '\n')
}

// ends are the upper ends of buckets as texts, with the infinite one. Most histograms that follow one another have the same.
func (p *page) ends(bounds []float64) []string {
	if len(bounds) == 0 || len(p.texts) != len(bounds)+1 || &bounds[0] != p.of {
		p.texts = p.texts[:0]
		for _, b := range bounds {
			p.texts = append(p.texts, string(p.appendNumber(nil, b)))
		}
		p.texts = append(p.texts, "+Inf")
		p.of = nil
		if len(bounds) > 0 {
			p.of = &bounds[0]
		}
	}
	return p.texts
}

// durations is histogram for durations, in milliseconds. One without a duration is left out.
func (p *page) durations(labels string, k telemetry.DurationCounts, shown detail) {
	if k.Count() > 0 {
		p.histogram(labels, k.Bounds, k.Buckets, milliseconds(k.Sum), shown, nil)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// begin writes a line up to its number, and the description before it if it is the first of its family.
func (p *page) begin(suffix, labels, le string) {
	if p.head {
		p.head = false
		name := p.name
		if p.open && p.kind == counter {
			name = strings.TrimSuffix(name, "_total")
		}
		p.b = append(p.b, "# HELP "+name+" "...)
		p.b = append(append(p.b, helpText.Replace(p.help)...), "\n# TYPE "+name+" "+p.kind+"\n"...)
	}
	p.b = append(append(p.b, p.name...), suffix...)
	if labels != "" || le != "" {
		p.b = append(append(p.b, '{'), labels...)
		if le != "" {
			if labels != "" {
				p.b = append(p.b, ',')
			}
			p.b = append(append(append(p.b, `le="`...), le...), '"')
		}
		p.b = append(p.b, '}')
	}
	p.b = append(p.b, ' ')
}

func (p *page) number(v float64) []byte { return p.appendNumber(p.b, v) }

// appendNumber is a number as the format has it.
func (p *page) appendNumber(b []byte, v float64) []byte {
	switch {
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	case math.IsInf(v, -1):
		return append(b, "-Inf"...)
	case math.IsNaN(v):
		return append(b, "NaN"...)
	}
	from := len(b)
	b = strconv.AppendFloat(b, v, 'g', -1, 64)
	if p.open && !bytes.ContainsAny(b[from:], ".e") {
		b = append(b, ".0"...)
	}
	return b
}

// exemplar writes a request that is in a bucket: the id of its trace, its latency and its time.
func (p *page) exemplar(e telemetry.Exemplar) {
	p.b = append(append(append(p.b, ` # {trace_id="`...), e.Trace()...), `"} `...)
	p.b = append(p.number(milliseconds(e.Took)), ' ')
	p.b = strconv.AppendFloat(p.b, float64(e.At.UnixMilli())/1e3, 'f', 3, 64)
}

// label is a label in the text format, with a comma before it if labels come before.
func label(labels, key, value string) string {
	if labels != "" {
		labels += ","
	}
	return labels + key + `="` + labelText.Replace(value) + `"`
}

var labelText = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`) //nolint:gochecknoglobals // a constant

var helpText = strings.NewReplacer(`\`, `\\`, "\n", `\n`) //nolint:gochecknoglobals // a constant
