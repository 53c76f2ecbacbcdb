package serving

import (
	"testing"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/proxy"
)

// TestHTTPFromWorkers: a worker or driver can send neither an exchange nor the head of a request.
func TestHTTPFromWorkers(t *testing.T) {
	t.Parallel()
	head := call.AppendHTTPRequest(nil, call.HTTPRequest{Method: "GET", Path: "/", Prefix: "/", Client: "203.0.113.7:1"})
	for name, test := range map[string]struct {
		c    call.Call
		want bool
	}{
		"a call":            {call.Call{}, false},
		"an exchange":       {call.Call{Exchange: &call.Exchange{Kind: 1}}, true},
		"a request's head":  {call.Call{Values: call.NewRemoteHTTP(head)}, true},
		"values of context": {call.Call{Values: t.Context()}, false},
	} {
		if got := fromNodeOnly(&test.c); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestInputs: a name that is not known is an input that an ingress cannot send.
func TestInputs(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]proxy.InKind{
		"none": proxy.InNone, "string": proxy.InString, "bytes": proxy.InBytes, "json": proxy.InJSON, "": proxy.InUnsupported, "any": proxy.InUnsupported,
	} {
		if got := input(name); got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}
