package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/helve-serve/helve/internal/logs"
)

// print writes a value in the form of --output: the text that text makes, JSON, or YAML.
func (r *reader) print(w io.Writer, value any, text func() string) error {
	if r.output == "text" {
		_, err := io.WriteString(w, safe(text()))
		return err
	}
	b, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if r.output == "yaml" {
		b, err = asYAML(b)
	} else {
		b = append(escaped(b), '\n')
	}
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// line writes a value of a stream: a line of JSON, a document of YAML, or the line that text makes.
func (r *reader) line(w io.Writer, value any, text func() string) error {
	if r.output == "text" {
		_, err := fmt.Fprintln(w, safe(text()))
		return err
	}
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if r.output == "json" {
		_, err = fmt.Fprintf(w, "%s\n", escaped(b))
		return err
	}
	if b, err = asYAML(b); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "---\n%s", b)
	return err
}

// asYAML is a text in JSON as YAML, with the order of its fields. Texts of several lines are blocks. A text with a character that is no part of YAML, for example
// an escape of a terminal, has no such form: then the whole stays JSON, which is YAML too.
func asYAML(text []byte) ([]byte, error) {
	var value any
	if err := yaml.UnmarshalWithOptions(text, &value, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	b, err := yaml.MarshalWithOptions(value, yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(false), yaml.CustomMarshaler(number))
	if err != nil || safe(string(b)) == string(b) {
		return b, err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return nil, err
	}
	return append(escaped(indented.Bytes()), '\n'), nil
}

// safe is a text for people without characters that a terminal obeys, in each of its lines. Messages have texts of user code, for example of an exception, which
// could move the cursor, hide lines or name the window; they become escapes such as \x1b.
func safe(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = string(logs.Clean(nil, []byte(line), false))
	}
	return strings.Join(lines, "\n")
}

// escaped is JSON with escapes in the place of the characters that a terminal obeys and that JSON takes as they are, such as U+009B.
func escaped(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r < 0x7f || unicode.IsPrint(r) || unicode.Is(unicode.Zs, r) || r == '\u200c' || r == '\u200d': // the last two join letters and emoji
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// number is a number as JSON has it: 1796009420.993, and not 1.796009420993e+09.
func number(f float64) ([]byte, error) { return json.Marshal(f) }

// fromYAML reads YAML into a value of JSON.
func fromYAML(text []byte, to any) error {
	b, err := yaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}
