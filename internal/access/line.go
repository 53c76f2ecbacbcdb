package access

import (
	"cmp"
	"encoding/json"
	"strconv"
	"time"
)

// Line is the line of one request.
type Line struct {
	Begun   time.Time
	Took    time.Duration
	Client  string // its address
	Method  string
	Route   string // the prefix of the application; "" where no application has the path
	Status  int
	Request string // its id
	Bytes   int64  // of the answer's body
	App     string // "" if the request came to none; likewise Replica
	Replica string
}

// appendText appends the line as text, with its end.
func (l *Line) appendText(b []byte) []byte {
	b = append(appendTime(b, l.Begun), ' ')
	b = append(append(b, l.Client...), ' ')
	b = append(append(b, l.Method...), ' ')
	b = append(append(b, cmp.Or(l.Route, "-")...), ' ')
	b = append(strconv.AppendInt(b, int64(l.Status), 10), ' ')
	tenths := (l.Took + 50*time.Microsecond) / (100 * time.Microsecond)
	b = append(strconv.AppendInt(b, int64(tenths/10), 10), '.', byte('0'+tenths%10), 'm', 's', ' ')
	b = append(append(b, cmp.Or(l.Request, "-")...), ' ')
	b = append(strconv.AppendInt(b, l.Bytes, 10), ' ')
	b = append(append(b, cmp.Or(l.App, "-")...), ' ')
	return append(append(b, cmp.Or(l.Replica, "-")...), '\n')
}

// appendJSON appends the line as JSON, with its end.
func (l *Line) appendJSON(b []byte) []byte {
	b = append(appendTime(append(b, `{"time":"`...), l.Begun), '"')
	b = appendString(append(b, `,"client":`...), l.Client)
	b = appendString(append(b, `,"method":`...), l.Method)
	b = appendString(append(b, `,"route":`...), l.Route)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(l.Status), 10)
	b = strconv.AppendFloat(append(b, `,"duration_ms":`...), float64(l.Took.Microseconds())/1000, 'f', -1, 64)
	b = appendString(append(b, `,"request_id":`...), l.Request)
	b = strconv.AppendInt(append(b, `,"bytes":`...), l.Bytes, 10)
	if l.App != "" {
		b = appendString(append(b, `,"app":`...), l.App)
	}
	if l.Replica != "" {
		b = appendString(append(b, `,"replica":`...), l.Replica)
	}
	return append(b, "}\n"...)
}

// appendTime appends a time as 2026-05-04T10:15:02.031Z, three times as fast as a layout.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	two := func(n int, end byte) { b = append(b, byte('0'+n/10), byte('0'+n%10), end) }
	b = append(strconv.AppendInt(b, int64(year), 10), '-')
	two(int(month), '-')
	two(day, 'T')
	two(hour, ':')
	two(minute, ':')
	two(second, '.')
	ms := t.Nanosecond() / int(time.Millisecond)
	return append(b, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// appendString appends a string of JSON. Most have nothing to escape.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) //nolint:errcheck // a string has no error
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
