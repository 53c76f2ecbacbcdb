// Package shown has values in the forms in which commands print them: texts without characters that a terminal obeys, JSON, YAML, and spans of time.
package shown

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/helve-serve/helve/internal/logs"
)

// YAML is a text in JSON as YAML, with the order of its fields. Texts of several lines are blocks. A text with a character that is no part of YAML, for example
// an escape of a terminal, has no such form: then the whole stays JSON, which is YAML too.
func YAML(text []byte) ([]byte, error) {
	var value any
	if err := yaml.UnmarshalWithOptions(text, &value, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	b, err := yaml.MarshalWithOptions(value, yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(false), yaml.CustomMarshaler(number))
	if err != nil || Safe(string(b)) == string(b) {
		return b, err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return nil, err
	}
	return append(JSON(indented.Bytes()), '\n'), nil
}

// Safe is a text for people without characters that a terminal obeys, in each of its lines. Messages have texts of user code, for example of an exception, which
// could move the cursor, hide lines or name the window; they become escapes such as \x1b.
func Safe(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = string(logs.Clean(nil, []byte(line), false))
	}
	return strings.Join(lines, "\n")
}

// JSON is JSON with escapes in the place of the characters that a terminal obeys and that JSON takes as they are, such as U+009B.
func JSON(text []byte) []byte {
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

// FromYAML reads YAML into a value of JSON.
func FromYAML(text []byte, to any) error {
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		return err
	}
	b, err := json.Marshal(value) // and not yaml.YAMLToJSON, which writes control characters in a form that JSON does not have
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

// Bytes is a size of memory as people say it: "0.4 MiB", "64 MiB", "1.5 GiB".
func Bytes(n uint64) string {
	const mega, giga = 1 << 20, 1 << 30
	switch {
	case n < 10*mega:
		return fmt.Sprintf("%.1f MiB", float64(n)/mega)
	case n < giga:
		return fmt.Sprintf("%.0f MiB", float64(n)/mega)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/giga)
}

// Ago is a time span as people say it: "12s", "5m3s", "3h12m", "4d2h".
func Ago(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Second:
		return strconv.Itoa(int(d.Milliseconds())) + "ms"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
