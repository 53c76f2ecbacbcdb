package logs

import (
	"context"
	"log/slog"
	"slices"
	"strings"
)

// Bound are the attributes and the groups of a handler of slog. The zero value has none.
type Bound struct {
	attrs []slog.Attr
	group string // in front of the names of attributes, such as "http."
}

// WithAttrs is the Bound of a handler's WithAttrs.
func (b Bound) WithAttrs(attrs []slog.Attr) Bound {
	b.attrs = slices.Clip(b.attrs)
	for _, a := range attrs {
		a.Key = b.group + a.Key
		b.attrs = append(b.attrs, a)
	}
	return b
}

// WithGroup is the Bound of a handler's WithGroup.
func (b Bound) WithGroup(name string) Bound {
	if name != "" {
		b.group += name + "."
	}
	return b
}

// Record is a record of slog with the attributes of the handler. The attributes app, deployment and replica are its writer, request_id and trace_id its ids.
// The lines of a value after its first, such as those of a traceback, follow the message, indented.
func (b Bound) Record(r slog.Record) *Record {
	rec := &Record{Time: r.Time, Level: r.Level}
	var below strings.Builder
	var take func(prefix string, a slog.Attr)
	take = func(prefix string, a slog.Attr) {
		v := a.Value.Resolve()
		if v.Kind() == slog.KindGroup {
			if a.Key != "" {
				prefix += a.Key + "."
			}
			for _, of := range v.Group() {
				take(prefix, of)
			}
			return
		}
		switch text := v.String(); prefix + a.Key {
		case "":
		case "app":
			rec.From.App = text
		case "deployment":
			rec.From.Deployment = text
		case "replica":
			rec.From.Replica = text
		case "request_id":
			rec.Request = text
		case "trace_id":
			rec.Trace = text
		default:
			first, rest, several := strings.Cut(strings.TrimRight(text, "\n"), "\n")
			if several {
				for line := range strings.SplitSeq(rest, "\n") {
					below.WriteString("\n  " + line)
				}
			}
			rec.Attrs = append(rec.Attrs, Attr{prefix + a.Key, first})
		}
	}
	for _, a := range b.attrs {
		take("", a)
	}
	r.Attrs(func(a slog.Attr) bool { take(b.group, a); return true })
	rec.Text = r.Message + below.String()
	return rec
}

type recordKey struct{}

// WithRecord is a context for a handler of slog, whose record is that of a program's code: it is shown as the lines of workers are.
func WithRecord(ctx context.Context, rec *Record) context.Context {
	return context.WithValue(ctx, recordKey{}, rec)
}

// RecordFrom is the record of [WithRecord]; nil for others.
func RecordFrom(ctx context.Context) *Record {
	rec, _ := ctx.Value(recordKey{}).(*Record)
	return rec
}
