package logs

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// Query is a query of the parameters of a URL: app, deployment, replica, request, level, since, until, text, tail, follow and access. A time is one of RFC 3339, or how long
// ago it was, such as 10m. Without tail it asks for the newest lines, so many as newest says; tail=0 is for the lines to come alone.
func Query(p url.Values, now time.Time, newest int) (helvetype.LogQuery, error) {
	q := helvetype.LogQuery{
		App: p.Get("app"), Deployment: p.Get("deployment"), Replica: p.Get("replica"), Request: p.Get("request"), Level: p.Get("level"), Text: p.Get("text"),
		Tail: newest, Follow: isSet(p, "follow"), Access: isSet(p, "access"),
	}
	if n, err := strconv.Atoi(p.Get("tail")); err == nil {
		q.Tail = n
	}
	if p.Get("tail") == "0" {
		q.Tail = -1
	}
	for name, to := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		at, err := Time(p.Get(name), now)
		if err != nil {
			return q, &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: fmt.Sprintf("%s: %v", name, err)}
		}
		*to = at
	}
	_, err := choose(q)
	return q, err
}

// isSet says that a parameter is there, and not "0" or "false".
func isSet(p url.Values, name string) bool {
	return p.Has(name) && p.Get(name) != "0" && p.Get(name) != "false"
}

// Time reads a time of RFC 3339, or how long before now it was, such as 90s or 1h30m. "" is the zero time.
func Time(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("%q is no time: it is as 10m, for ten minutes ago, or as %s", text, now.UTC().Format(time.RFC3339))
	}
	return at, nil
}

// choice is a query whose level and text are read.
type choice struct {
	helvetype.LogQuery
	level slog.Level
	text  string // in small letters
}

// choose reads a query.
func choose(q helvetype.LogQuery) (*choice, error) {
	c := &choice{LogQuery: q, level: slog.LevelDebug, text: strings.ToLower(q.Text)}
	if q.Level != "" {
		level, ok := Named(strings.ToUpper(q.Level))
		if !ok {
			return nil, &helvetype.OperationError{
				Code: helvetype.CodeInvalidArgument, Message: fmt.Sprintf("there is no level %q", q.Level), Next: "the levels are DEBUG, INFO, WARN and ERROR",
			}
		}
		c.level = level
	}
	return c, nil
}

// wants says whether the query chooses a record, whichever writer it has.
func (c *choice) wants(k *kept) bool {
	switch {
	case k.level < c.level && c.Level != "",
		c.Request != "" && (k.detail == nil || k.request != c.Request),
		!c.Since.IsZero() && k.at.Before(c.Since),
		!c.Until.IsZero() && k.at.After(c.Until):
		return false
	case c.text == "" || contains(k.text, c.text):
		return true
	case k.detail != nil:
		return slices.ContainsFunc(k.attrs, func(a Attr) bool { return contains(a.Value, c.text) })
	}
	return false
}

// contains says whether text has the part small, which is in small letters.
func contains(text, small string) bool { return strings.Contains(strings.ToLower(text), small) }

// Show is a line for people, with its end. The lines of a traceback are indented below the first:
//
//	10:15:02.031 ERROR (shop/Ranker#001 r-1) the request failed attempt=2
//	  Traceback (most recent call last):
//
// With colours, those of the message stay.
func Show(l *helvetype.LogLine, colours bool) []byte {
	writer := cmp.Or(l.App, "node")
	switch {
	case l.Replica != "": // its id has the name of its deployment in it
		writer += "/" + l.Replica
	case l.Deployment != "":
		writer += "/" + l.Deployment
	}
	if l.Request != "" {
		writer += " " + l.Request
	}
	var attrs []Attr
	for _, k := range slices.Sorted(maps.Keys(l.Attributes)) {
		attrs = append(attrs, Attr{k, l.Attributes[k]})
	}
	head := fmt.Sprintf("%s %-5s (%s) ", l.Time.Local().Format("15:04:05.000"), l.Level, writer)
	b := Clean(nil, []byte(head), false)
	for i, line := range strings.Split(WithAttrs(l.Text, attrs), "\n") {
		if i > 0 {
			b = append(b, "\n  "...)
		}
		b = Clean(b, []byte(line), colours)
	}
	return append(b, '\n')
}
