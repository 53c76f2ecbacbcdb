package system

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/telemetry"
)

// Running is a system that runs: in this process ([System]), or in another one to which this program is attached ([Remote]).
type Running interface {
	// Deploy adds an application, or changes the one of its name. Delete drains one and stops its replicas.
	Deploy(ctx context.Context, make Build) error
	Delete(ctx context.Context, app string) error
	Reconfigure(ctx context.Context, app, deployment string, config json.RawMessage) error
	// Rollback deploys an application again as a revision before has it; 0 is the one that ran before the present one.
	Rollback(ctx context.Context, app string, revision int) error
	// Scale sets the number of replicas of a deployment. by and why are for people.
	Scale(ctx context.Context, app, deployment string, n int, by, why string) error
	// Find returns a deployment of an application, for handles.
	Find(app, name string) (*graph.Deployment, *call.Error)
	// Entry is the name of the ingress deployment of an application.
	Entry(app string) (deployment string, err error)
	// Status is the present state, as far as the node can be reached. ReadStatus is the same with the error.
	Status() helvetype.Status
	ReadStatus(ctx context.Context) (helvetype.Status, error)
	// Address is the address at which other programs attach; "" without one.
	Address() string
	// StartDrain and Close end the system, or the connection to it.
	StartDrain(ctx context.Context)
	Close(ctx context.Context) error

	// The methods below are about the HTTP ingress and the numbers of the node.
	Opened() (url string, failed <-chan error)
	URLs() []string
	Serve(addr string) (url string, failed <-chan error, err error)
	ServeListener(l net.Listener, secure *tls.Config) (url string, failed <-chan error, err error)
	Handler() http.Handler
	ReloadCertificate() error
	AdminURL() string
	Metrics() telemetry.Snapshot
}

var (
	_ Running = (*System)(nil)
	_ Running = (*Remote)(nil)
)
