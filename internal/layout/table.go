// Package layout writes text for people: tables and paragraphs that fit the width of a terminal, and plans.
package layout

import (
	"os"
	"strings"
	"unicode/utf8"

	"github.com/helve-serve/helve/internal/kernel"
)

const (
	PageWidth  = 80 // of text that is no terminal's
	columnGap  = 3  // 2 where columns are many
	leastWidth = 24 // of a last column that stays on the line of its row
)

// Width is that of text for a file: that of a terminal, else 80.
func Width(f *os.File) int {
	if w := kernel.TerminalWidth(f); w >= 40 {
		return w
	}
	return PageWidth
}

// Table writes rows below a header, nil for none. The last column is text: it goes on in further lines below itself where it does not fit into the width,
// or below its row where the other columns leave no room for it.
func Table(b *strings.Builder, indent string, width int, header []string, rows [][]string) {
	all := rows
	if header != nil {
		all = append([][]string{header}, rows...)
	}
	if len(all) == 0 {
		return
	}
	widths, used, gap, below := shape(indent, width, all)
	last := len(widths)
	for n, row := range all {
		var line strings.Builder
		line.WriteString(indent)
		for i := range last {
			line.WriteString(row[i] + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(row[i])+gap))
		}
		text := row[last]
		if below && n == 0 && header != nil {
			text = "" // the header of a column that is below has no place
		}
		hang, room := strings.Repeat(" ", used), width-used
		if below {
			b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
			line.Reset()
			hang = indent + "    "
			room = width - len(hang)
			if text == "" {
				continue
			}
			line.WriteString(hang)
		}
		for i, part := range wrapped(text, room) {
			if i > 0 {
				line.WriteString("\n" + hang)
			}
			line.WriteString(part)
		}
		for part := range strings.SplitSeq(line.String(), "\n") {
			b.WriteString(strings.TrimRight(part, " ") + "\n")
		}
	}
}

// shape is how a table fits: the widths of its columns but the last, what they use of the width, the gap between two, and whether the last one goes below its row.
func shape(indent string, width int, all [][]string) (widths []int, used, gap int, below bool) {
	last := len(all[0]) - 1
	widths = make([]int, last)
	longest := 0
	used = len(indent)
	for _, row := range all {
		for i := range last {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		for line := range strings.SplitSeq(row[last], "\n") {
			longest = max(longest, utf8.RuneCountInString(line))
		}
	}
	for _, w := range widths {
		used += w + columnGap
	}
	gap = columnGap
	if width-used < min(longest, leastWidth) {
		gap = 2
		used -= last
	}
	if below = width-used < min(longest, leastWidth); below {
		gap = columnGap
	}
	return widths, used, gap, below
}

// Fits says that a table, with its header among the rows, has room for its last column on the lines of its rows.
func Fits(indent string, width int, rows [][]string) bool {
	_, _, _, below := shape(indent, width, rows)
	return !below
}

// wrapped are the lines of a text that are at most so wide. A word that is wider, such as a path, has a line of its own and is not cut.
func wrapped(text string, width int) (lines []string) {
	for line := range strings.SplitSeq(text, "\n") {
		if utf8.RuneCountInString(line) <= width {
			lines = append(lines, line)
			continue
		}
		now := line[:len(line)-len(strings.TrimLeft(line, " "))] // of a traceback, for example
		for word := range strings.FieldsSeq(line) {
			switch {
			case strings.TrimSpace(now) == "":
				now += word
			case utf8.RuneCountInString(now)+1+utf8.RuneCountInString(word) <= width:
				now += " " + word
			default:
				lines = append(lines, now)
				now = word
			}
		}
		lines = append(lines, now)
	}
	return lines
}

// Paragraph writes a text with a begin in front of its first line and an indent in front of the others.
func Paragraph(b *strings.Builder, begin, indent, text string, width int) {
	for _, line := range wrapped(text, max(width-max(len(begin), len(indent)), leastWidth)) {
		b.WriteString(strings.TrimRight(begin+line, " ") + "\n")
		begin = indent
	}
}
