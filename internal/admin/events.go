package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/sse"
	"github.com/helve-serve/helve/internal/telemetry"
)

// eventQuery is which events a reader wants.
type eventQuery struct {
	after  uint64 // events up to this id are not wanted
	pages  bool   // the reader gave an id, and goes on from there
	limit  int
	follow bool
	of     helvetype.Object // empty fields are for all
}

// eventLimit is how many events an answer has, at most and by default.
const eventLimit = 4096

func parseEventQuery(q url.Values) (eventQuery, error) {
	e := eventQuery{limit: eventLimit, of: helvetype.Object{
		Kind: q.Get("kind"), App: q.Get("app"), Deployment: q.Get("deployment"), Replica: q.Get("replica"),
	}}
	var err error
	if text := q.Get("after"); text != "" {
		if e.after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return e, fmt.Errorf("after %q: must be the id of an event", text)
		}
		e.pages = true
	}
	if text := q.Get("limit"); text != "" {
		if e.limit, err = strconv.Atoi(text); err != nil || e.limit < 1 || e.limit > eventLimit {
			return e, fmt.Errorf("limit %q: must be a number from 1 to %d", text, eventLimit)
		}
	}
	if q.Has("follow") {
		switch text := q.Get("follow"); text {
		case "", "1", "true":
			e.follow = true
		case "0", "false":
		default:
			return e, fmt.Errorf("follow %q: must be true or false", text)
		}
	}
	switch e.of.Kind {
	case "", helvetype.KindApplication, helvetype.KindDeployment, helvetype.KindReplica, helvetype.KindNode:
	default:
		return e, fmt.Errorf("kind %q: must be %s, %s, %s or %s", e.of.Kind, helvetype.KindApplication, helvetype.KindDeployment, helvetype.KindReplica, helvetype.KindNode)
	}
	return e, nil
}

func (q eventQuery) wants(o helvetype.Object) bool {
	fits := func(want, is string) bool { return want == "" || want == is }
	return fits(q.of.Kind, o.Kind) && fits(q.of.App, o.App) && fits(q.of.Deployment, o.Deployment) && fits(q.of.Replica, o.Replica)
}

// page is the first answer to a query.
func (q eventQuery) page(events *telemetry.Events) (list rest.EventList) {
	all, missed := events.Since(q.after, eventLimit)
	list = rest.EventList{Events: []helvetype.Event{}}
	if q.pages { // a reader without an id does not know of older events
		list.Missed = missed
	}
	for _, e := range all {
		if q.pages && len(list.Events) == q.limit {
			return list
		}
		list.Next = e.ID
		if q.wants(e.Object) {
			list.Events = append(list.Events, e)
		}
	}
	if len(all) == 0 { // an id above the newest is of the node before, and Since has read it as 0
		list.Next = min(q.after, events.Last())
	}
	list.Events = list.Events[max(len(list.Events)-q.limit, 0):]
	return list
}

// events answers with the events that the reader wants, and then, if it follows, with the events to come. A client of server-sent events that connects again
// goes on behind the last event that it has.
func (a *Server) events(c *ask) {
	if last := c.r.Header.Get("Last-Event-ID"); last != "" && sse.Wanted(c.r) {
		c.query.Set("after", last)
	}
	q, err := parseEventQuery(c.query)
	if err != nil {
		fail(c.w, http.StatusBadRequest, "%s", err)
		return
	}
	q.follow = q.follow || sse.Wanted(c.r)
	list := q.page(a.set.Node.Events())
	if !q.follow {
		answer(c.w, http.StatusOK, list)
		return
	}
	q.after = list.Next
	a.follow(c, q, list)
}

// follow writes events until the reader has gone or the server closes. It holds up nothing: it reads the ring at its own speed.
func (a *Server) follow(c *ask, q eventQuery, list rest.EventList) {
	ctx, out, stop := a.startFollower(c)
	if out == nil {
		return
	}
	defer stop()
	for {
		if list.Missed > 0 && out.item("", "missed", rest.Missed{Missed: list.Missed}) != nil {
			return
		}
		for _, e := range list.Events {
			if q.wants(e.Object) && out.item(strconv.FormatUint(e.ID, 10), "transition", e) != nil {
				return
			}
		}
		if out.flush() != nil {
			return
		}
		var err error
		if list.Events, list.Missed, err = a.set.Node.Events().Next(ctx, q.after, 256); err != nil {
			return
		}
		q.after = list.Events[len(list.Events)-1].ID
	}
}
