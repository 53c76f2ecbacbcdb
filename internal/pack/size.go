package pack

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	noticeBytes  = 64 << 20 // a directory with more is worth a warning: each deploy reads it, and the node keeps it for each revision
	largestParts = 3        // that a message names
	mostOf       = 0.9      // of the bytes in one directory: its own parts tell more than its name
)

// Notice is a sentence about a directory that is unusually large, "" for another. It names the largest files and directories in it, so that the user sees which of
// them do not belong to the program.
func (t *Tree) Notice() string {
	if t.bytes() <= noticeBytes {
		return ""
	}
	return fmt.Sprintf("the node keeps a copy of %s for this revision, %s: %s. %s", t.root, size(t.bytes()), t.largest(), advice)
}

const advice = "excludes of the runtime_env leaves out files that the program does not need"

func (t *Tree) bytes() (all int64) {
	for _, e := range t.entries {
		all += e.size
	}
	return all
}

// largest lists the largest parts. For example, "model.bin 150 MiB, data/ 20 MiB, and 3 others 2 MiB".
func (t *Tree) largest() string {
	sizes, below := map[string]int64{}, ""
	for whole := t.bytes(); ; {
		clear(sizes)
		for _, e := range t.entries {
			name, inside := strings.CutPrefix(e.name, t.entries[0].name+"/"+below)
			if first, _, deeper := strings.Cut(name, "/"); inside && deeper {
				sizes[below+first+"/"] += e.size
			} else if inside && !e.dir {
				sizes[below+first] += e.size
			}
		}
		dominant := ""
		for name, bytes := range sizes {
			if strings.HasSuffix(name, "/") && float64(bytes) >= mostOf*float64(whole) {
				dominant = name
			}
		}
		if dominant == "" {
			break
		}
		below = dominant
	}
	names := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int { return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b)) })
	var parts []string
	rest := int64(0)
	named := largestParts
	if len(names) == named+1 {
		named++ // its name takes no more room than "and 1 other"
	}
	for i, name := range names {
		if i < named {
			parts = append(parts, name+" "+size(sizes[name]))
		} else {
			rest += sizes[name]
		}
	}
	if more := len(names) - named; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d others %s", more, size(rest)))
	}
	return strings.Join(parts, ", ")
}

func size(bytes int64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%d kB", (bytes+1023)>>10)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
