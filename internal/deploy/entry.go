package deploy

import (
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/spec"
)

// Entry is the method by which requests enter the ingress of an application, and how it takes them. A Python method may answer requests by itself
// or give a stream although the graph does not say so, and m says that. A handler in Go is always ServeHTTP.
func Entry(in *spec.IngressSpec, m host.Method) (method string, kind spec.IngressKind) {
	method, kind = in.Method, in.Kind
	if kind == spec.IngressHTTP {
		method = "ServeHTTP"
	}
	switch {
	case m.HTTP():
		kind = spec.IngressHTTP
	case m.Stream:
		kind = spec.IngressStream
	}
	return method, kind
}
