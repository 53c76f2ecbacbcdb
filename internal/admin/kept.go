package admin

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// requests lists requests that the node keeps.
func (a *Server) requests(c *ask) {
	q := helvetype.RequestQuery{
		App: c.query.Get("app"), Kept: c.query.Get("kept"), Status: c.number("status", 0), LongerThan: time.Duration(c.number("longer_than_ms", 0)) * time.Millisecond,
		Limit: c.number("limit", 0),
	}
	a.get(c, func(o Operator) (any, error) { return o.Requests(c.r.Context(), q) })
}

// request has one request with what took time in it.
func (a *Server) request(c *ask) {
	a.get(c, func(o Operator) (any, error) { return o.Request(c.r.Context(), c.path("request")) })
}

// Requests is [Operator.Requests].
func (c *Client) Requests(ctx context.Context, q helvetype.RequestQuery) (l helvetype.RequestList, err error) {
	query := url.Values{}
	for name, text := range map[string]string{"app": q.App, "kept": q.Kept} {
		if text != "" {
			query.Set(name, text)
		}
	}
	for name, n := range map[string]int64{"status": int64(q.Status), "longer_than_ms": q.LongerThan.Milliseconds(), "limit": int64(q.Limit)} {
		if n != 0 {
			query.Set(name, strconv.FormatInt(n, 10))
		}
	}
	return l, c.Get(ctx, "/api/v1/requests", query, &l)
}

// Request is [Operator.Request].
func (c *Client) Request(ctx context.Context, id string) (r helvetype.RequestTrace, err error) {
	return r, c.Get(ctx, "/api/v1/requests/"+url.PathEscape(id), nil, &r)
}
