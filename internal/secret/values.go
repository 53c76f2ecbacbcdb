package secret

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
)

var errNoJSON = errors.New("is not JSON")

// leastScrubbed is the least number of bytes of a value that is taken out of texts. A shorter one, such as "INFO", is a word of other lines too.
const leastScrubbed = 6

// mostScrubbed is the number of values that are kept. When a variable changes from node to node there are as many as names; the bound is for a file
// that changes each second.
const mostScrubbed = 10_000

// Values are the values that were put in the place of placeholders. A nil Values keeps none.
type Values struct {
	mu       sync.RWMutex
	values   map[string]bool
	replacer *strings.Replacer // nil while there is no value
}

func (v *Values) add(value string) {
	if v == nil || len(value) < leastScrubbed {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.values[value] || len(v.values) >= mostScrubbed {
		return
	}
	if v.values == nil {
		v.values = map[string]bool{}
	}
	v.values[value] = true
	// A value is also scrubbed in the form in which a traceback or a line of JSON has it, with \n for the end of a line, and a text of several lines in each of them.
	all := map[string]bool{}
	for value := range v.values {
		all[value] = true
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= leastScrubbed {
				all[line] = true
			}
		}
		all[escapes.Replace(value)] = true
	}
	longest := make([]string, 0, len(all))
	for value := range all {
		longest = append(longest, value)
	}
	slices.SortFunc(longest, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	pairs := make([]string, 0, 2*len(longest))
	for _, value := range longest {
		pairs = append(pairs, value, Hidden)
	}
	v.replacer = strings.NewReplacer(pairs...)
}

var escapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`) //nolint:gochecknoglobals // a constant

// Scrub is a text with "***" in the place of each value of six bytes or more.
func (v *Values) Scrub(text string) string {
	if v == nil {
		return text
	}
	v.mu.RLock()
	replacer := v.replacer
	v.mu.RUnlock()
	if replacer == nil {
		return text
	}
	return replacer.Replace(text)
}
