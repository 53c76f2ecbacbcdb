package node

import (
	"context"
	"net"
	"net/http"
	"testing"
)

// TestMetricsHaveTheRequests: the numbers of a node have those of its HTTP ingress.
func TestMetricsHaveTheRequests(t *testing.T) {
	t.Parallel()
	n := New(Settings{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url, _, err := n.Serve(l)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Get(url) //nolint:noctx // a local server
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if err := n.Close(context.Background()); err != nil { // after it the request has ended
		t.Fatal(err)
	}
	s := n.Metrics()
	if len(s.Requests) != 1 || s.Requests[0].Status != 404 || s.Requests[0].Method != "GET" || s.Requests[0].Calls.Started != 1 || s.Ongoing != 0 {
		t.Errorf("%d ongoing, %+v", s.Ongoing, s.Requests)
	}
}
