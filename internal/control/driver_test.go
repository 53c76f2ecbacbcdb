package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/build"
	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/pack"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/spec"
)

// node notes the operations that it is asked for.
type node struct {
	asked  string
	loaded int
	got    deploy.App
	keeps  map[string]error  // by path, of a durable node; nil if the node is not durable
	leave  [][]pack.Excludes // of each path that was kept
	notice string
	source string // of the applications that are there
	// keeping is called for each path; nil for nothing.
	keeping func()
	// unstored is the error of NoteUnstored, with the application.
	unstored string
}

var errBusy = errors.New("busy")

func (n *node) Deploy(_ context.Context, app deploy.App) error {
	n.asked, n.got = "deploy "+app.Graph.App, app
	return nil
}

func (n *node) Deployed(string, int) (now deploy.App, then *deploy.App, ok bool) {
	return deploy.App{Source: n.source}, nil, n.source != ""
}

func (n *node) Delete(_ context.Context, name string) error {
	n.asked = "delete " + name
	return errBusy
}

func (n *node) Scale(_ context.Context, app, deployment string, replicas int, by, why string) error {
	n.asked = fmt.Sprintf("scale %s/%s to %d by %s: %s", app, deployment, replicas, by, why)
	return nil
}

func (n *node) Rollback(_ context.Context, app string, revision int, by string) error {
	n.asked = fmt.Sprintf("rollback %s to %d by %s", app, revision, by)
	return nil
}

func (n *node) Reconfigure(_ context.Context, app, deployment string, config json.RawMessage) error {
	n.asked = fmt.Sprintf("configure %s/%s with %s", app, deployment, config)
	return nil
}

func (n *node) LoadBuild(_ context.Context, path, app string, c build.Command) (deploy.App, error) {
	n.loaded++
	if path != "/srv/rank" {
		return deploy.App{}, errBusy
	}
	return deploy.App{Graph: spec.Graph{App: fmt.Sprint(app, c.Args, c.Env, c.Dir)}}, nil
}

func (n *node) LoadPart(_ context.Context, path, app string, _ build.Command) (*deploy.Part, error) {
	n.loaded++
	if app == "" {
		app = "rank" // the only one
	}
	return &deploy.Part{Build: build.Build{Path: path}, Graph: spec.Graph{App: app, Deployments: []spec.Deployment{
		{Name: "Ranker", Language: "go", Uses: []string{"Scorer"}}, {Name: "Scorer", Language: "go"},
	}}}, nil
}

func (n *node) Durable() bool { return n.keeps != nil }

func (n *node) Keep(_ context.Context, path string, leave []pack.Excludes) (kept pack.Packed, notice string, err error) {
	if n.keeping != nil {
		n.keeping()
	}
	err, there := n.keeps[path]
	if !there {
		err = fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return kept, "", err
	}
	n.leave = append(n.leave, leave)
	return pack.Packed{Path: path, Digest: "digest of " + path}, n.notice, nil
}

func (n *node) WouldKeep(ctx context.Context, path string, leave []pack.Excludes) (kept pack.Packed, notice string, err error) {
	return n.Keep(ctx, path, leave)
}

func (n *node) NoteUnstored(app string, err error) { n.unstored = app + ": " + err.Error() }

func (n *node) OpenHTTP(host string, _ *int, _ proxy.Options, _ time.Duration) (string, error) {
	return "http://" + host, nil
}

// TestDriver: a driver's request is one operation of the node, and its reply or error goes back.
func TestDriver(t *testing.T) {
	t.Parallel()
	for op, x := range map[string]struct {
		body, asked string
		reply       any
		err         error
	}{
		"deploy": {
			`{"app":{"name":"hello","ingress":"D","deployments":[{"name":"D","class":"m:D"}]}}`, "deploy hello", protocol.Deployed{URL: "http://"}, nil,
		},
		"delete": {`{"name":"hello"}`, "delete hello", nil, errBusy},
		"scale": {
			`{"app":"hello","deployment":"D","replicas":0,"reason":"night"}`, "scale hello/D to 0 by driver: night", protocol.Done{}, nil,
		},
		"rollback":               {`{"app":"hello","revision":3}`, "rollback hello to 3 by driver", protocol.Done{}, nil},
		"rollback to the former": {`{"app":"hello"}`, "rollback hello to 0 by driver", protocol.Done{}, nil},
		"configure": {
			`{"app":"hello","deployment":"D","user_config":{"a":1}}`, `configure hello/D with {"a":1}`, protocol.Done{}, nil,
		},
		"deploy_build": {
			`{"path":"/srv/rank","app":"rank","args":["a"],"env":["B=1"],"cwd":"/srv"}`, "deploy rank[a] [B=1]/srv", protocol.Address{URL: "http://"}, nil,
		},
		"http": {`{"host":"h","port":1}`, "", protocol.Address{URL: "http://h"}, nil},
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			n := &node{}
			op, _, _ := strings.Cut(op, " ")
			reply, err := control.NewDriver(n, new(control.Owners), new(claim.Claims)).Control(t.Context(), op, json.RawMessage(x.body))
			if n.asked != x.asked || !cmp.Equal(reply, x.reply) || !errors.Is(err, x.err) {
				t.Errorf("%q: %+v, %v; want %q: %+v, %v", n.asked, reply, err, x.asked, x.reply, x.err)
			}
		})
	}
}

// slowNode is a durable node whose deploys and roll-backs end when the test says so.
type slowNode struct {
	node
	begun, end chan struct{}
	ended      chan error
}

func (n *slowNode) Durable() bool { return true }

func (n *slowNode) Deploy(context.Context, deploy.App) error {
	return n.Rollback(context.Background(), "", 0, "")
}

func (n *slowNode) Rollback(context.Context, string, int, string) error {
	close(n.begun)
	<-n.end
	n.ended <- nil
	return nil
}

// TestDriverIsGone: the reply to a deploy does not hold up the end of its driver's connection, and the deploy of a durable node goes on.
func TestDriverIsGone(t *testing.T) {
	t.Parallel()
	for op, body := range map[string]string{
		"deploy":       `{"app":{"name":"hello","ingress":"D","deployments":[{"name":"D","class":"m:D"}]}}`,
		"deploy_build": `{"path":"/srv/rank","app":"rank"}`,
		"rollback":     `{"app":"hello"}`,
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			n := &slowNode{begun: make(chan struct{}), end: make(chan struct{}), ended: make(chan error, 1)}
			ctx, gone := context.WithCancel(t.Context())
			replied := make(chan error)
			go func() {
				_, err := control.NewDriver(n, new(control.Owners), new(claim.Claims)).Control(ctx, op, json.RawMessage(body))
				replied <- err
			}()
			<-n.begun
			gone()
			if err := <-replied; err == nil {
				t.Error("the deploy that goes on has a reply")
			}
			close(n.end)
			if err := <-n.ended; err != nil {
				t.Error(err)
			}
		})
	}
}
