// Package metrics shows the numbers of a node to Prometheus, under the names and labels of the reference, so that its dashboards find them:
// for example ray_serve_deployment_request_counter_total{application, deployment, replica, route}. The numbers are read when Prometheus
// asks; no event is counted twice, and no call pays for it. The label values are names of applications, deployments and replicas, their
// routes, HTTP statuses and the nine methods of HTTP, never a text that a client chooses.
//
// The package writes the text formats by itself (text.go); Prometheus' library has the numbers of the Go runtime and of the process.
// Only programs with a command line of Helve's, and those that import the public package metrics, link the package: client_golang makes an executable about
// 4 MB larger.
package metrics

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/helve-serve/helve/internal/machine"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Source is the node.
type Source interface {
	Metrics() telemetry.Snapshot
}

// The content types of the two formats.
const (
	textType = "text/plain; version=0.0.4; charset=utf-8"
	openType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// handler answers GET /metrics.
type handler struct {
	source  Source
	process prometheus.Gatherer
	machine host
}

// Handler answers GET /metrics for a node, in OpenMetrics if the client asks for it, and compressed if it takes that. Two nodes in one process do not
// see each other's numbers, but for those of the process.
func Handler(s Source) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &handler{source: s, process: r, machine: host{gpus: machine.SharedGPUs()}}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := pages.Get().(*page)
	defer pages.Put(p)
	*p = page{b: p.b[:0], names: map[string]bool{}, open: strings.Contains(r.Header.Get("Accept"), "application/openmetrics-text")}
	kind := textType
	if p.open {
		kind = openType
	}
	if err := h.write(p); err != nil {
		http.Error(w, "the metrics of the process: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Add("Vary", "Accept, Accept-Encoding")
	if !takesGzip(r.Header.Get("Accept-Encoding")) {
		w.Write(p.b) //nolint:errcheck // the client has gone
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(w)
	z.Write(p.b) //nolint:errcheck // the client has gone
	z.Close()    //nolint:errcheck // likewise
}

// takesGzip reads Accept-Encoding as far as the answer depends on it.
func takesGzip(accept string) bool {
	for one := range strings.SplitSeq(accept, ",") {
		name, q, _ := strings.Cut(one, ";")
		if strings.TrimSpace(name) == "gzip" {
			return strings.Trim(strings.TrimSpace(q), "q=0.") != "" || q == ""
		}
	}
	return false
}

// Memory that answers leave for the next: a page of 1,000 replicas has some megabytes.
var ( //nolint:gochecknoglobals // pools of buffers are not state
	pages   = sync.Pool{New: func() any { return new(page) }}
	zippers = sync.Pool{New: func() any {
		z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) //nolint:errcheck // the level is one of its own
		return z
	}}
)

// write writes the whole answer.
func (h *handler) write(p *page) error {
	s := h.source.Metrics()
	writeNode(p, &s)
	all := views(&s)
	d := detailsOf(&s, all)
	writeRequests(p, &s, d.others)
	writeApplications(p, &s, all, d)
	h.machine.write(p, &s)
	writeUser(p, s.User)
	families, err := h.process.Gather()
	if err != nil {
		return err
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	if p.open {
		format = expfmt.NewFormat(expfmt.TypeOpenMetrics)
	}
	rest := bytes.NewBuffer(p.b)
	e := expfmt.NewEncoder(rest, format)
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return err
		}
	}
	p.b = rest.Bytes()
	if p.open {
		p.b = append(p.b, "# EOF\n"...)
	}
	return nil
}
