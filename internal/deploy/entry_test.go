package deploy

import (
	"testing"

	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/placement"
	"github.com/helve-serve/helve/internal/spec"
)

// TestEntry: the method of a graph's ingress, and what the host knows of it.
func TestEntry(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		kind   spec.IngressKind
		m      host.Method
		method string
		want   spec.IngressKind
	}{
		"as the graph says":      {"", host.Method{In: "string"}, "Do", ""},
		"a stream":               {"", host.Method{In: "string", Stream: true}, "Do", spec.IngressStream},
		"a request":              {"", host.Method{In: "request", Stream: true}, "Do", spec.IngressHTTP},
		"an ASGI application":    {"", host.Method{In: "asgi"}, "Do", spec.IngressHTTP},
		"a handler in Go":        {spec.IngressHTTP, host.Method{}, "ServeHTTP", spec.IngressHTTP},
		"a stream that is known": {spec.IngressStream, host.Method{}, "Do", spec.IngressStream},
	} {
		if method, kind := Entry(&spec.IngressSpec{Deployment: "D", Method: "Do", Kind: x.kind}, x.m); method != x.method || kind != x.want {
			t.Errorf("%s: %s by %q, want %s by %q", name, method, kind, x.method, x.want)
		}
	}
}

// TestExcess: the one CPU of programs that say nothing is no excess, more CPUs than the machine has are.
func TestExcess(t *testing.T) {
	t.Parallel()
	for cpus, want := range map[float64]int{0: 0, 1: 0, 2: 1} {
		var o spec.Effective
		o.Resources.CPUs = cpus
		if got := Excess(devices.Machine{CPUs: 4}, placement.Unstated(""), o, 8); len(got) != want {
			t.Errorf("%v CPUs: %q", cpus, got)
		}
	}
}
