package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/series"
	"github.com/helve-serve/helve/internal/updates"
)

// view is the object of the query. The answer is written if its names do not fit together.
func (a *Server) view(c *ask) (v updates.View, ok bool) {
	v = updates.View{App: c.query.Get("app"), Deployment: c.query.Get("deployment"), Replica: c.query.Get("replica")}
	switch {
	case v.Deployment != "" && v.App == "":
		fail(c.w, http.StatusBadRequest, "deployment %q: name its application too, with the parameter app", v.Deployment)
	case v.Replica != "" && v.Deployment == "":
		fail(c.w, http.StatusBadRequest, "replica %q: name its deployment too, with the parameter deployment", v.Replica)
	default:
		return v, true
	}
	return v, false
}

// updates writes what changes, until the reader has gone or the server closes.
func (a *Server) updates(c *ask) {
	v, ok := a.view(c)
	if !ok {
		return
	}
	if v.AllReplicas = c.flag("all_replicas"); v.AllReplicas && v.App != "" {
		fail(c.w, http.StatusBadRequest, "all_replicas is for the replicas of the whole node, and app %q for those of one application: leave one of the two parameters out", v.App)
		return
	}
	if a.set.Updates == nil {
		a.failed(c, &helvetype.OperationError{Code: helvetype.CodeUnimplemented, Message: "this node has no stream of updates"})
		return
	}
	ctx, out, stop := a.startFollower(c)
	if out == nil {
		return
	}
	defer stop()
	a.set.Updates.Follow(ctx, v, func(item json.RawMessage) error { //nolint:errcheck // the reader has gone
		if err := out.item("", "update", item); err != nil {
			return err
		}
		return out.flush()
	})
}

// series answers with numbers of the last hour.
func (a *Server) series(c *ask) {
	v, ok := a.view(c)
	if !ok {
		return
	}
	now, last := time.Now(), series.Hour
	since, err := logs.Time(c.query.Get("since"), now)
	if err != nil {
		fail(c.w, http.StatusBadRequest, "since: %s", err)
		return
	}
	if !since.IsZero() {
		last = min(max(now.Sub(since), 0), series.Hour)
	}
	if a.set.Series == nil {
		a.failed(c, &helvetype.OperationError{Code: helvetype.CodeUnimplemented, Message: "this node keeps no numbers of the last hour"})
		return
	}
	s, ok := a.set.Series(v, last)
	if !ok {
		of := helvetype.Object{App: v.App, Deployment: v.Deployment, Replica: v.Replica}
		a.failed(c, &helvetype.OperationError{
			Code: helvetype.CodeNotFound, Message: fmt.Sprintf("there are no numbers of %q: it is not there, and was not in the last hour", of.String()),
			Next: "helve status lists the applications, their deployments and replicas",
		})
		return
	}
	answer(c.w, http.StatusOK, s)
}
