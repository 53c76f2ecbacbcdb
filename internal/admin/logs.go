package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/sse"
)

// logLimit is how many lines an answer that does not follow has, at most, and logDefault how many it has without the parameter tail.
const (
	logLimit   = 10_000
	logDefault = 1000
)

// errEnough ends a query that has all lines.
var errEnough = errors.New("enough")

// logs answers with the newest lines, and then, if the reader follows, with the lines to come.
func (a *Server) logs(c *ask) {
	o := a.operator(c)
	if o == nil {
		return
	}
	q, err := logs.Query(c.query, time.Now(), logDefault)
	if err != nil {
		a.failed(c, err)
		return
	}
	q.Follow = q.Follow || sse.Wanted(c.r)
	if q.Follow {
		a.followLogs(c, o, q)
		return
	}
	list := rest.LogList{Lines: []helvetype.LogLine{}}
	err = o.Logs(c.r.Context(), q, func(line *helvetype.LogLine, missed uint64) error {
		list.Missed += missed
		if line != nil {
			list.Lines = append(list.Lines, *line)
		}
		if len(list.Lines) >= logLimit {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		a.failed(c, err)
		return
	}
	answer(c.w, http.StatusOK, list)
}

// followLogs writes lines until the reader has gone or the server closes. An error before the first line is an answer of its own.
func (a *Server) followLogs(c *ask, o Operator, q helvetype.LogQuery) {
	ctx, out, stop := a.startFollower(c)
	if out == nil {
		return
	}
	defer stop()
	begun := false
	err := o.Logs(ctx, q, func(line *helvetype.LogLine, missed uint64) error {
		begun = true
		if missed > 0 {
			if err := out.item("", "missed", rest.Missed{Missed: missed}); err != nil {
				return err
			}
		}
		if line == nil {
			return out.flush()
		}
		return out.item("", "line", line)
	})
	if err != nil && !begun {
		c.w.Header().Del("Cache-Control")
		a.failed(c, err)
		return
	}
	out.flush() //nolint:errcheck // the reader has gone
}
