package profile

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// threadLabel is the label of samples of Python replicas with the name of the thread, or of the task.
const threadLabel = "thread"

// taskPrefix begins the label of a task.
const taskPrefix = "task "

// Python is a profile as a Python worker answers with it (_profile.py): functions once, and stacks as numbers of these.
type Python struct {
	Kind Kind `json:"kind"`
	// Start is in seconds since 1970, and Seconds the time that the profile has taken.
	Start   float64 `json:"start"`
	Seconds float64 `json:"seconds"`
	// Samples is how often the stacks were looked at, and CostS the CPU time of that, in seconds.
	Samples int64   `json:"samples"`
	CostS   float64 `json:"cost_s"`
	// Functions are name, file and first line.
	Functions []PythonFunction `json:"functions"`
	Stacks    []PythonStack    `json:"stacks"`
}

// PythonFunction is [name, file, first line].
type PythonFunction Function

// UnmarshalJSON reads the array.
func (f *PythonFunction) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&f.Name, &f.File, &f.Line})
}

// PythonStack is a stack with its two values: nanoseconds or bytes, and how many.
type PythonStack struct {
	Value  int64   `json:"value"`
	Count  int64   `json:"count"`
	Thread string  `json:"thread"`
	Frames []int64 `json:"frames"` // function and line in turn, from the innermost frame
}

// pythonTypes are the types of the count and of the value of each kind, by the names that Go's profiles have.
func pythonTypes(kind Kind) []Type {
	switch kind {
	case Heap:
		return []Type{{"inuse_objects", "count"}, {"inuse_space", "bytes"}}
	case Block:
		return []Type{{"contentions", "count"}, {"delay", "nanoseconds"}}
	case CPU:
		return []Type{{"samples", "count"}, {"cpu", "nanoseconds"}}
	}
	return []Type{{"samples", "count"}, {"threads", "count"}}
}

// FromPython makes a profile of the answer of a Python worker.
func FromPython(answer []byte) (*Profile, error) {
	var from Python
	if err := json.Unmarshal(answer, &from); err != nil {
		return nil, fmt.Errorf("the stacks of the worker: %w", err)
	}
	p := &Profile{
		Types: pythonTypes(from.Kind), Duration: time.Duration(from.Seconds * float64(time.Second)),
		Start: time.UnixMicro(int64(from.Start * float64(time.Second/time.Microsecond))),
	}
	p.Shown = len(p.Types) - 1
	if from.Samples > 0 && from.Kind != Heap {
		p.PeriodType = Type{"wall", "nanoseconds"}
		p.Period = int64(p.Duration) / from.Samples
		p.Comments = []string{fmt.Sprintf("%d samples in %.1f s, which have cost %.3f s of CPU time", from.Samples, from.Seconds, from.CostS)}
	}
	for _, f := range from.Functions {
		p.Functions = append(p.Functions, Function(f))
	}
	for _, stack := range from.Stacks {
		s := Sample{Values: []int64{stack.Count, stack.Value}[:len(p.Types)]}
		if stack.Thread != "" {
			s.Labels = []Label{{threadLabel, stack.Thread}}
		}
		for i := 0; i+1 < len(stack.Frames); i += 2 {
			if n := stack.Frames[i]; n < 0 || n >= int64(len(p.Functions)) {
				return nil, fmt.Errorf("the stacks of the worker: there is no function %d", n)
			}
			s.Stack = append(s.Stack, Frame{int(stack.Frames[i]), stack.Frames[i+1]})
		}
		p.Samples = append(p.Samples, s)
	}
	return p, nil
}

// frameLine is a frame in a traceback of Python.
var frameLine = regexp.MustCompile(`^\s*File "(.*)", line (\d+), in (.*)$`)

// FromTracebacks makes a profile of the stacks that a worker has told because its event loop stands: for each thread a line "Thread NAME:", and its frames as
// Python shows them, the innermost one last.
func FromTracebacks(text string, at time.Time) *Profile {
	p := &Profile{Types: pythonTypes(Stacks), Shown: 1, Start: at}
	known := map[Function]int{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if name, ok := strings.CutPrefix(line, "Thread "); ok {
			p.Samples = append(p.Samples, Sample{Values: []int64{1, 1}, Labels: []Label{{threadLabel, strings.TrimSuffix(name, ":")}}})
			continue
		}
		m := frameLine.FindStringSubmatch(line)
		if m == nil || len(p.Samples) == 0 {
			continue
		}
		fn := Function{Name: m[3], File: m[1]}
		n, ok := known[fn]
		if !ok {
			n = len(p.Functions)
			known[fn], p.Functions = n, append(p.Functions, fn)
		}
		number, _ := strconv.ParseInt(m[2], 10, 64)
		s := &p.Samples[len(p.Samples)-1]
		s.Stack = append([]Frame{{n, number}}, s.Stack...)
	}
	return p
}
