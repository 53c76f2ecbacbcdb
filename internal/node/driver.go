package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/wire"
)

// driver is a connected driver: a process that holds handles, deploys applications, and hosts no replica.
type driver struct {
	node *Node
}

// ServeDriver serves the driver on nc until it goes away. The node is the driver's own child: the caller closes it then.
func (n *Node) ServeDriver(nc net.Conn, token wire.Token) error {
	offer := wire.Offer{Version: n.set.Version, Features: []string{wire.FeatureSegments}, MaxBody: n.set.MaxBody}
	h, err := offer.Accept(nc, func(h wire.Hello) (wire.Token, error) {
		if h.Kind != "driver" {
			return wire.Token{}, fmt.Errorf("a %s where a driver was expected", h.Kind)
		}
		return token, nil
	})
	if err != nil {
		nc.Close()
		return err
	}
	s := &session{node: n, origin: "driver:" + strconv.Itoa(h.PID), driver: &driver{node: n}, referenceOver: h.ReferenceOver}
	peer := wire.NewLinkPeer(wire.NewLink(wire.NewConn(nc), h.Terms), s)
	s.peer = peer
	defer s.dropAll()
	defer s.releaseAll()
	return peer.Serve()
}

// pythonApp is a Python application as a driver sends it (docs/wire.md).
type pythonApp struct {
	Name        string            `json:"name"`
	RoutePrefix *string           `json:"route_prefix"`
	Ingress     string            `json:"ingress"`
	Python      string            `json:"python"`
	SysPath     []string          `json:"sys_path"`
	Dir         string            `json:"cwd"`
	Env         map[string]string `json:"env"`
	Blob        []byte            `json:"blob"`
	Deployments []struct {
		Name    string          `json:"name"`
		Class   string          `json:"class"`
		Options json.RawMessage `json:"options"`
		Uses    []string        `json:"uses"`
	} `json:"deployments"`
}

func (d *driver) control(ctx context.Context, op string, body json.RawMessage) (any, error) {
	n := d.node
	switch op {
	case "deploy":
		var req struct {
			App pythonApp `json:"app"`
		}
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, call.NewError(call.BadInput, "deploy: "+err.Error())
		}
		return d.deploy(ctx, req.App)
	case "delete":
		var req struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, call.NewError(call.BadInput, "delete: "+err.Error())
		}
		return nil, n.Delete(ctx, req.Name)
	case "http":
		var req struct {
			Host string `json:"host"`
			Port *int   `json:"port"`
		}
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, call.NewError(call.BadInput, "http: "+err.Error())
		}
		return d.http(req.Host, req.Port)
	}
	return nil, call.NewError(call.BadInput, fmt.Sprintf("unknown control request %q", op))
}

func (d *driver) http(host string, port *int) (any, error) {
	type reply struct {
		URL string `json:"url"`
	}
	n := d.node
	n.mu.Lock()
	url := n.url
	n.mu.Unlock()
	if port == nil || url != "" {
		return reply{url}, nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(*port)))
	if err != nil {
		return nil, call.NewError(call.BadInput, err.Error())
	}
	url, failed, err := n.Serve(l)
	if err != nil {
		l.Close()
		return nil, err
	}
	n.wg.Go(func() {
		select {
		case err := <-failed:
			n.log.Error("the HTTP listener has failed", "error", err)
		case <-n.ctx.Done():
		}
	})
	return reply{url}, nil
}

func (d *driver) deploy(ctx context.Context, a pythonApp) (any, error) {
	n := d.node
	g := spec.Graph{App: a.Name, Ingress: &spec.IngressSpec{Deployment: a.Ingress}}
	if a.RoutePrefix != nil {
		g.RoutePrefix = *a.RoutePrefix
	}
	var mistakes []error
	for _, s := range a.Deployments {
		p := spec.Deployment{Name: s.Name, Language: "python", Import: s.Class, Uses: s.Uses}
		if len(s.Options) > 0 {
			if err := json.Unmarshal(s.Options, &p.Options); err != nil {
				mistakes = append(mistakes, spec.InDeployment(s.Name, err)...)
			}
		}
		g.Deployments = append(g.Deployments, p)
	}
	if err := errors.Join(append(mistakes, g.Validate()...)...); err != nil {
		return nil, call.NewError(call.BadInput, err.Error())
	}
	err := n.Deploy(ctx, App{Graph: g, RetryStated: true, Python: Python{
		Interpreter: a.Python, SysPath: a.SysPath, Dir: a.Dir, Env: a.Env, Blob: a.Blob,
	}})
	if err != nil { // the driver shows the text alone: it has to say where
		return nil, call.NewError(call.AsError(err).Reason, err.Error())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return struct {
		URL string `json:"url"`
	}{n.url}, nil
}

// blobCode stores a blob in the node's private directory under its digest, and gives what start_replica carries.
func (n *Node) blobCode(blob []byte) (json.RawMessage, error) {
	n.mu.Lock()
	err := n.listenLocked()
	var dir string
	if err == nil {
		dir = filepath.Dir(n.socket.Path())
	}
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(blob)
	digest := hex.EncodeToString(sum[:])
	path := filepath.Join(dir, digest)
	if _, err := os.Stat(path); err != nil {
		tmp, err := os.CreateTemp(dir, "blob-")
		if err != nil {
			return nil, err
		}
		_, err = tmp.Write(blob)
		if cerr := tmp.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			err = os.Rename(tmp.Name(), path)
		}
		if err != nil {
			return nil, fmt.Errorf("the application's code cannot be stored: %w", err)
		}
	}
	return json.Marshal(map[string]string{"blob": path, "digest": digest})
}
