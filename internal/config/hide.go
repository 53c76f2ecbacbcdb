package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/secret"
)

// isName is what may stand before the colon of a line that is shown of a file that is no YAML: a name alone, and no part of a value that goes over several lines.
var isName = regexp.MustCompile(`^[ \t]*(?:- +)*["']?[A-Za-z_][A-Za-z0-9_.-]*["']?[ \t]*$`) //nolint:gochecknoglobals // a constant

// hideSecrets keeps secrets out of the lines that messages show: texts with !secret, and the values of env_vars and ssl_keyfile_password, also where the file has them
// in a place that is a mistake.
func (r *reader) hideSecrets(v *value) {
	if v == nil {
		return
	}
	if v.marked {
		r.hide(v)
	}
	for _, item := range v.items {
		r.hideSecrets(item)
	}
	for _, f := range v.fields {
		switch f.name {
		case "env_vars":
			r.hideAll(f.value)
		case "ssl_keyfile_password":
			r.hide(f.value)
		default:
			r.hideSecrets(f.value)
		}
	}
}

// stars is a copy of a value in which secrets are "***"; all says that each value in it is one.
func (v *value) stars(all bool) *value {
	out := *v
	if plain := v.kind != list && v.kind != object && v.kind != null; plain && (all || v.marked) {
		out.kind, out.text = text, secret.Hidden
	}
	out.items, out.fields = slices.Clone(v.items), slices.Clone(v.fields)
	for i, item := range out.items {
		out.items[i] = item.stars(all)
	}
	for i, f := range out.fields {
		out.fields[i].value = f.value.stars(all || f.name == "env_vars" || f.name == "ssl_keyfile_password")
	}
	return &out
}

// hideAll hides all values below a value.
func (r *reader) hideAll(v *value) {
	for _, item := range v.items {
		r.hideAll(item)
	}
	for _, f := range v.fields {
		r.hideAll(f.value)
	}
	if v.kind != list && v.kind != object && v.kind != null {
		r.hide(v)
	}
}

// hide keeps a value out of messages. The parser's place of a value behind a tag is some characters too far to the left in a list in brackets: where the line does not
// have the value at its place, all the rest of the line is hidden, and the following lines of a text in quotes.
func (r *reader) hide(v *value) {
	if v.at.line < 1 || v.at.line > len(r.lines) || slices.ContainsFunc(r.hidden, func(h place) bool { return h.line == v.at.line && h.column == v.at.column }) {
		return // the second one is of an alias
	}
	line := []rune(strings.TrimRight(r.lines[v.at.line-1], "\r"))
	at, from := v.at, v.at.column-1
	if exact(v, line) {
		r.hidden = append(r.hidden, at)
		return
	}
	at.width = maxFile
	r.hidden = append(r.hidden, at)
	for i := from; i < len(line) && v.kind == text; i++ {
		if line[i] == '"' || line[i] == '\'' {
			r.hideRest(at.line, i+1, line[i])
			return
		}
	}
}

// exact says that a line has the value, and all of it, at its place.
func exact(v *value, line []rune) bool {
	from, to := v.at.column-1, v.at.column-1+v.at.width
	if from < 0 || to > len(line) || from >= to {
		return false
	}
	s := line[from:to]
	switch first, last := s[0], s[len(s)-1]; {
	case first == '"' || first == '\'':
		return len(s) > 1 && last == first && s[len(s)-2] != '\\'
	case v.kind == text:
		return string(s) == v.text
	}
	return !strings.ContainsRune(" \t,[]{}:", s[0]) && (to == len(line) || strings.ContainsRune(" \t,]}", line[to]))
}

// hideRest hides the lines behind the first one of a text in quotes. The text begins in a line, before a character of it.
func (r *reader) hideRest(number, from int, quote rune) {
	for line := []rune(r.lines[number-1]); ; line, from = []rune(r.lines[number-1]), 0 {
		for i := from; i < len(line); i++ {
			switch {
			case quote == '"' && line[i] == '\\', quote == '\'' && line[i] == quote && i+1 < len(line) && line[i+1] == quote:
				i++ // the next one is no end
			case line[i] == quote:
				if from == 0 {
					r.hidden = append(r.hidden, place{number, 1, i + 1})
				}
				return
			}
		}
		if from == 0 {
			r.hidden = append(r.hidden, place{number, 1, maxFile})
		}
		if number++; number > len(r.lines) {
			return
		}
	}
}
