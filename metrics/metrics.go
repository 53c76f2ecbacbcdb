// Package metrics shows the numbers of a node to Prometheus, for programs that run their applications themselves, without the command line of
// package cli, which has metrics anyway. Package helve does not import it: Prometheus' library makes an executable some 4 MB larger, so only
// programs that import this package, or cli, have it. docs/metrics.md lists the metrics.
package metrics

import (
	"net/http"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/metrics"
)

// Handler answers with the metrics of a node and of its process. A program has two places for it:
//
//	helve.Config{Admin: "127.0.0.1:8265", Metrics: metrics.Handler} // GET /metrics of the admin interface
//	mux.Handle("/metrics", metrics.Handler(system))                 // a path of the program's own server
//
// The numbers are read when Prometheus asks. Two systems in one process have separate numbers, but for those of the process.
func Handler(of helve.MetricsSource) http.Handler { return metrics.Handler(of) }
