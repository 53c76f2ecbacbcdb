package logs

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Record is one record of a logger, or text that was printed at once.
type Record struct {
	Time           time.Time
	Level          slog.Level
	From           Writer
	Request, Trace string // ids; "" where they are not known
	Stream         string // stdout, stderr, or "" for a record of a logger
	Logger         string // the name of the logger
	Text           string // the message; it may have several lines
	Attrs          []Attr
}

// Attr is an attribute of a record, as text.
type Attr struct{ Key, Value string }

// The bounds of the attributes of a record.
const (
	attrsMax = 32      // attributes
	attrMax  = 1 << 10 // bytes of a name or a value
)

// clean makes the texts of a record safe on a terminal ([Clean]), and bounds its attributes.
func (r *Record) clean() {
	r.Text = CleanText(r.Text)
	r.Request, r.Trace, r.Stream, r.Logger = cleanShort(r.Request), cleanShort(r.Trace), cleanShort(r.Stream), cleanShort(r.Logger)
	r.Attrs = r.Attrs[:min(len(r.Attrs), attrsMax)]
	for i, a := range r.Attrs {
		r.Attrs[i] = Attr{cleanShort(a.Key), cleanShort(a.Value)}
	}
}

// Cleaned is the record with texts that are safe on a terminal, and bounded attributes.
func (r Record) Cleaned() *Record {
	r.Attrs = append([]Attr(nil), r.Attrs...)
	r.clean()
	return &r
}

// CleanText is the text with each of its lines as [Clean] makes it, colours included.
func CleanText(text string) string {
	var b []byte
	for line := range strings.SplitSeq(text, "\n") {
		b = append(Clean(b, []byte(line), true), '\n')
	}
	return string(b[:len(b)-1])
}

// WithAttrs is a message with its attributes behind its first line, as slog writes them: `replica is ready after=1.6s`.
func WithAttrs(text string, attrs []Attr) string {
	if len(attrs) == 0 {
		return text
	}
	first, rest, several := strings.Cut(text, "\n")
	var b strings.Builder
	b.WriteString(first)
	for _, a := range attrs {
		b.WriteString(" " + a.Key + "=")
		if a.Value == "" || strings.ContainsAny(a.Value, " =\"") {
			b.WriteString(strconv.Quote(a.Value))
		} else {
			b.WriteString(a.Value)
		}
	}
	if several {
		b.WriteString("\n" + rest)
	}
	return b.String()
}

func cleanShort(text string) string {
	if len(text) > attrMax {
		text = strings.ToValidUTF8(text[:attrMax], "") + "..."
	}
	return string(Clean(nil, []byte(text), false))
}

// RecordWriter is the Output of a node that takes records in place of lines of text. Record may be called from any goroutine, and does not keep the record.
type RecordWriter interface{ Record(rec *Record) }

// Line is the record in the shape that users see.
func (r *Record) Line() helvetype.LogLine {
	k := kept{at: r.Time, level: r.Level, text: r.Text, detail: &detail{r.Request, r.Trace, r.Stream, r.Logger, r.Attrs}}
	return k.line(r.From)
}

func (k *kept) line(from Writer) helvetype.LogLine {
	l := helvetype.LogLine{Time: k.at, Level: LevelName(k.level), App: from.App, Deployment: from.Deployment, Replica: from.Replica, Text: k.text}
	if d := k.detail; d != nil {
		l.Request, l.Trace, l.Stream, l.Logger = d.request, d.trace, d.stream, d.logger
		if len(d.attrs) > 0 {
			l.Attributes = make(map[string]string, len(d.attrs))
		}
		for _, a := range d.attrs {
			l.Attributes[a.Key] = a.Value
		}
	}
	return l
}

// LevelName is the name of the level at or below l: DEBUG, INFO, WARN or ERROR. For example, INFO+2 is INFO.
func LevelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "ERROR"
	case l >= slog.LevelWarn:
		return "WARN"
	case l >= slog.LevelInfo:
		return "INFO"
	}
	return "DEBUG"
}

// Shown is how a record is shown in the Output of a node: as its program has formatted it, or its level, message and attributes.
func Shown(rec *Record, formatted string) string {
	if formatted != "" {
		return formatted
	}
	if rec.Stream != "" {
		return rec.Text
	}
	return LevelName(rec.Level) + " " + WithAttrs(rec.Text, rec.Attrs)
}

// Lines is a record in the Output of a node, behind a name in parentheses, with the id of the request if formatted has not got it:
// "(D#1 r-1) loaded". formatted is as for [Shown].
func Lines(name string, rec *Record, formatted string) (lines []byte) {
	if rec.Request != "" && !strings.Contains(formatted, rec.Request) {
		name += " " + string(Clean(nil, []byte(rec.Request), false))
	}
	for line := range strings.SplitSeq(CleanText(Shown(rec, formatted)), "\n") {
		lines = append(fmt.Appendf(lines, "(%s) ", name), line...)
		lines = append(lines, '\n')
	}
	return lines
}
