// Package nearest finds the known name that was meant by a name with a typo: num_replica is num_replicas, and --htpp is --http.
package nearest

import (
	"fmt"
	"strings"
)

// longest is the length of the longest name that is compared. The time grows with the product of both lengths.
const longest = 60

// Of is the known name with the fewest changes from name, and with at most that many; "" if there is none. A change is a character more, less or another, or two that have
// changed places. Letters are equal in upper and lower case. Of two names with as few changes the first one is taken.
func Of(name string, known []string, changes int) string {
	best, least := "", changes+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); k != "" && d < least {
			best, least = k, d
		}
	}
	return best
}

// Question ends a message about a name that is not there, for example "; did you mean num_replicas?". It is "" if no known name is near: within two changes, and in a long
// name within a third of its length.
func Question(name string, known []string) string {
	best := Of(name, known, max(2, len(name)/3)) //nolint:mnd // see above
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

func distance(a, b string) int {
	if len(a) > longest || len(b) > longest {
		return longest
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
