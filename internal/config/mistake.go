package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Mistake is one thing that is wrong with a file.
type Mistake struct {
	File         string
	Line, Column int    // from 1
	Text         string // the field, and the problem
	source       string // the line of the file, without secrets; "" if there is none to show
	mark, width  int    // column and number of the marks below it
	cause        error
}

// Brief is the mistake on one line: "serve.yaml:4:5: num_replicas: must be at least 1, is 0".
func (m *Mistake) Brief() string {
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.Text)
}

// Error is the mistake with its line of the file, and marks below the part that it is about.
func (m *Mistake) Error() string {
	if m.source == "" {
		return m.Brief()
	}
	line, column := m.source, m.mark
	const before, width = 30, 90
	if runes := []rune(line); len(runes) > width { // a part of a long line
		from := max(0, min(column-1-before, len(runes)))
		line, column = string(runes[from:min(len(runes), from+width)]), m.mark-from
	}
	number := fmt.Sprintf("%4d", m.Line)
	pad := strings.Builder{}
	for i, c := range []rune(line) {
		if i >= column-1 {
			break
		}
		if c != '\t' {
			c = ' '
		}
		pad.WriteRune(c)
	}
	marks := max(1, min(m.width, utf8.RuneCountInString(line)-column+1))
	return fmt.Sprintf("%s\n%s | %s\n%s | %s^%s", m.Brief(), number, line, strings.Repeat(" ", len(number)), pad.String(), strings.Repeat("~", marks-1))
}

// Unwrap gives the cause.
func (m *Mistake) Unwrap() error { return m.cause }

// Mistakes are all mistakes of a file, in the order of its lines.
type Mistakes []*Mistake

// Sorted are the mistakes in the order of their places in the file.
func (m Mistakes) Sorted() Mistakes {
	slices.SortStableFunc(m, func(a, b *Mistake) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
	return m
}

// mostShown is the number of mistakes that an error has in full.
const mostShown = 20

func (m Mistakes) Error() string {
	var all []string
	for i, one := range m {
		if i == mostShown {
			all = append(all, fmt.Sprintf("and %d more mistakes", len(m)-mostShown))
			break
		}
		all = append(all, one.Error())
	}
	return strings.Join(all, "\n")
}

// Unwrap gives each.
func (m Mistakes) Unwrap() []error {
	var all []error
	for _, one := range m {
		all = append(all, one)
	}
	return all
}

// Brief is each mistake on a line, without the text of the file, for a log.
func (m Mistakes) Brief() string {
	var all []string
	for _, one := range m {
		all = append(all, one.Brief())
	}
	return strings.Join(all, "\n")
}

// asMistake is the mistake that an error is.
func asMistake(err error) *Mistake {
	if m, ok := errors.AsType[*Mistake](err); ok {
		return m
	}
	return &Mistake{Line: 1, Column: 1, Text: err.Error(), cause: err}
}
