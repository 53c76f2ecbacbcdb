package tables

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/shown"
)

// Resources is the resources of a node in one line: "CPU 2 of 4 free (0.7 in use), GPU 1 of 2 free". It is "" for a node that gives nothing out, because all that replicas ask for is only recorded
// there.
func Resources(all map[string]helvetype.Resource) string {
	const decimals = 100
	var texts []string
	given := false
	for _, name := range slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Or(cmp.Compare(turn(a), turn(b)), cmp.Compare(a, b)) }) {
		r := all[name]
		amount := func(n float64) string {
			if name == helvetype.ResourceMemory {
				return shown.Bytes(uint64(n))
			}
			return strconv.FormatFloat(math.Round(n*decimals)/decimals, 'f', -1, 64)
		}
		if r.Total == nil || r.Free == nil {
			texts = append(texts, fmt.Sprintf("%s %s recorded", name, amount(r.Held)))
			continue
		}
		given = true
		text := fmt.Sprintf("%s %s of %s free", name, amount(*r.Free), amount(*r.Total))
		if r.Used > 0 {
			text += fmt.Sprintf(" (%s in use)", amount(r.Used))
		}
		texts = append(texts, text)
	}
	if !given {
		return ""
	}
	return strings.Join(texts, ", ")
}

// turn is the place of a resource in the line: CPUs, GPUs, memory, and others.
func turn(name string) int {
	order := []string{helvetype.ResourceCPU, helvetype.ResourceGPU, helvetype.ResourceMemory}
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	return len(order)
}
