// Package profile has profiles as values: the form of pprof, read and written without a library, the stacks of Python replicas in that form, and the forms
// for people: folded stacks, a text, a flame graph. It takes no profile itself (package capture does in Go, _profile.py in Python), and does no I/O.
//
// For example, a Python worker answers with "the stack main, handle, score had 3.2 s of CPU time". [FromPython] makes a profile of it, [Profile.Encode] writes the
// file that go tool pprof reads, and [Profile.SVG] draws it.
package profile

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind says what a profile counts.
type Kind string

// The kinds of profiles.
const (
	CPU    Kind = "cpu"    // CPU time by stack
	Heap   Kind = "heap"   // memory that is in use, by the stack that has allocated it
	Stacks Kind = "stacks" // the stacks of all goroutines, or of all threads and tasks, now
	Block  Kind = "block"  // time that stacks have waited
)

// Kinds are all kinds.
func Kinds() []Kind { return []Kind{CPU, Heap, Stacks, Block} }

// Bounds of the time of a profile.
const (
	DefaultSeconds = 10
	MaxSeconds     = 300
	LastMaxSeconds = 3600 // of continuous profiles
)

// Profile has the values of the stacks of one process. A profile that was made is not changed, so that many goroutines may read it.
type Profile struct {
	// Types say what the values of each sample are.
	Types []Type
	// Shown is the index of the value that people look at first.
	Shown     int
	Functions []Function
	Samples   []Sample
	// Period is the mean distance of two samples, in units of PeriodType; 0 for a profile that does not sample.
	Period     int64
	PeriodType Type
	Start      time.Time // zero if it is not known
	Duration   time.Duration
	Comments   []string
}

// Type is the kind and the unit of a value, for example cpu and nanoseconds.
type Type struct{ Kind, Unit string }

// Function is a function of the program.
type Function struct {
	Name, File string
	Line       int64 // its first one; 0 if it is not known
}

// Sample is a stack with its values.
type Sample struct {
	// Stack begins with the innermost frame.
	Stack  []Frame
	Values []int64
	Labels []Label
}

// Frame is a place in a function.
type Frame struct {
	Function int // index of [Profile.Functions]
	Line     int64
}

// Label is a property of a whole sample, for example the name of its thread.
type Label struct{ Name, Value string }

// value is the shown value of a sample.
func (p *Profile) value(s *Sample) int64 {
	if p.Shown < len(s.Values) {
		return s.Values[p.Shown]
	}
	return 0
}

// shown is the type of the shown value.
func (p *Profile) shown() Type {
	if p.Shown < len(p.Types) {
		return p.Types[p.Shown]
	}
	return Type{"samples", "count"}
}

// Folded has a line for each stack: its functions from the outermost one, divided by semicolons, a space and the shown value. Samples of one stack
// are one line, and lines are in order of their text. Programs that draw flame graphs read this.
func (p *Profile) Folded() string {
	lines := map[string]int64{}
	for i := range p.Samples {
		s := &p.Samples[i]
		if v := p.value(s); v > 0 {
			lines[strings.Join(p.path(s), ";")] += v
		}
	}
	stacks := make([]string, 0, len(lines))
	for stack := range lines {
		stacks = append(stacks, stack)
	}
	slices.Sort(stacks)
	var b strings.Builder
	for _, stack := range stacks {
		b.WriteString(stack)
		b.WriteByte(' ')
		b.WriteString(strconv.FormatInt(lines[stack], 10))
		b.WriteByte('\n')
	}
	return b.String()
}

// path are the names of a stack from the outermost one; the thread of a Python replica is the first.
func (p *Profile) path(s *Sample) []string {
	path := make([]string, 0, len(s.Stack)+1)
	for _, l := range s.Labels {
		if l.Name == threadLabel {
			path = append(path, oneLine(l.Value))
		}
	}
	for i := len(s.Stack) - 1; i >= 0; i-- {
		path = append(path, oneLine(p.name(s.Stack[i])))
	}
	return path
}

func (p *Profile) name(f Frame) string { return cmp.Or(p.Functions[f.Function].Name, "?") }

// oneLine is a name in the folded form, in which semicolons and ends of lines divide.
func oneLine(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ';':
			return ':'
		case r < ' ' || r == 0x7f:
			return ' '
		}
		return r
	}, name)
}

// Text has the stacks for people, those with the highest value first: a line with the value and the labels, and a line for each frame from the innermost one.
func (p *Profile) Text() string {
	order := make([]*Sample, 0, len(p.Samples))
	for i := range p.Samples {
		order = append(order, &p.Samples[i])
	}
	slices.SortStableFunc(order, func(a, b *Sample) int { return cmp.Compare(p.value(b), p.value(a)) })
	var b strings.Builder
	for _, s := range order {
		if p.value(s) <= 0 {
			continue
		}
		b.WriteString(heading(s, Amount(p.value(s), p.shown())))
		b.WriteByte('\n')
		for _, f := range s.Stack {
			b.WriteString("    " + oneLine(p.name(f)))
			if file := p.Functions[f.Function].File; file != "" {
				b.WriteString("  " + oneLine(file) + ":" + strconv.FormatInt(f.Line, 10))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// heading names a stack: a thread or task by its name, other stacks by their value.
func heading(s *Sample, amount string) string {
	words := []string{amount}
	for _, l := range s.Labels {
		switch {
		case l.Name != threadLabel:
			words = append(words, oneLine(l.Name)+" "+oneLine(l.Value))
		case strings.HasPrefix(l.Value, taskPrefix):
			words = append(words, oneLine(l.Value))
		default:
			words = append(words, threadLabel+" "+oneLine(l.Value))
		}
	}
	if len(words) > 1 && amount == "1 threads" {
		words = words[1:]
	}
	return strings.Join(words, "  ")
}

// Amount is a value with its unit for people, for example 1.25 s or 3.1 MiB.
func Amount(v int64, t Type) string {
	switch t.Unit {
	case "nanoseconds":
		d := time.Duration(v)
		switch {
		case d >= time.Second:
			return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + " s"
		case d >= time.Millisecond:
			return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64) + " ms"
		}
		return strconv.FormatFloat(float64(d)/float64(time.Microsecond), 'f', 1, 64) + " us"
	case "bytes":
		const kib = 1 << 10
		n, unit := float64(v), 0
		for n >= kib && unit < 4 {
			n, unit = n/kib, unit+1
		}
		if unit == 0 {
			return strconv.FormatInt(v, 10) + " B"
		}
		return strconv.FormatFloat(n, 'f', 1, 64) + " " + []string{"", "KiB", "MiB", "GiB", "TiB"}[unit]
	}
	return strconv.FormatInt(v, 10) + " " + t.Kind
}

// Without takes the values of an earlier profile of the same process off: the rest has happened since. For example, the runtime of Go counts the waits of a
// process from its start on, and two profiles ten seconds apart say how long has been waited in these.
func (p *Profile) Without(earlier *Profile) *Profile {
	before := map[string][]int64{}
	for i := range earlier.Samples {
		s := &earlier.Samples[i]
		key := earlier.key(s)
		before[key] = sum(before[key], s.Values, 1)
	}
	later := *p
	later.Samples = nil
	for i := range p.Samples {
		s := p.Samples[i]
		key := p.key(&s)
		s.Values = sum(slices.Clone(s.Values), before[key], -1)
		delete(before, key)
		if slices.ContainsFunc(s.Values, func(v int64) bool { return v > 0 }) {
			later.Samples = append(later.Samples, s)
		}
	}
	return &later
}

// Join makes one profile of several of one process, the earliest first: the values of equal stacks are added up. Profiles with other types than the first are left out. There must be one.
func Join(all []*Profile) *Profile {
	joined := &Profile{Types: all[0].Types, Shown: all[0].Shown, Period: all[0].Period, PeriodType: all[0].PeriodType, Start: all[0].Start}
	functions, samples, number := map[Function]int{}, map[string]int{}, 0
	for _, p := range all {
		if !slices.Equal(p.Types, joined.Types) {
			continue
		}
		number++
		joined.Duration += p.Duration
		for i := range p.Samples {
			s := &p.Samples[i]
			key := p.key(s)
			at, ok := samples[key]
			if !ok {
				at = len(joined.Samples)
				samples[key] = at
				own := Sample{Stack: slices.Clone(s.Stack), Labels: s.Labels}
				for j, f := range own.Stack {
					function := p.Functions[f.Function]
					n, ok := functions[function]
					if !ok {
						n = len(joined.Functions)
						functions[function] = n
						joined.Functions = append(joined.Functions, function)
					}
					own.Stack[j].Function = n
				}
				joined.Samples = append(joined.Samples, own)
			}
			joined.Samples[at].Values = sum(joined.Samples[at].Values, s.Values, 1)
		}
	}
	joined.Comments = []string{fmt.Sprintf("%d profiles of %s in all", number, joined.Duration.Round(time.Millisecond))}
	return joined
}

// Continuous says whether a node takes continuous profiles, and how much of them it keeps.
type Continuous struct {
	On       bool       `json:"continuous"`
	Since    *time.Time `json:"since,omitempty"`
	Profiles int        `json:"profiles"` // short ones, of all processes
	Bytes    int        `json:"bytes"`
}

// key is equal for two samples of one stack, also in different profiles.
func (p *Profile) key(s *Sample) string {
	var b strings.Builder
	for _, f := range s.Stack {
		fn := p.Functions[f.Function]
		b.WriteString(fn.Name + "\x00" + fn.File + "\x00" + strconv.FormatInt(f.Line, 10) + "\x01")
	}
	for _, l := range s.Labels {
		b.WriteString(l.Name + "\x00" + l.Value + "\x02")
	}
	return b.String()
}

func sum(to, values []int64, sign int64) []int64 {
	for len(to) < len(values) {
		to = append(to, 0)
	}
	for i, v := range values {
		to[i] += sign * v
	}
	return to
}
