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
	"github.com/helve-serve/helve/internal/protocol"
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
	s.control = s.operations()
	peer := wire.NewPeer(wire.NewLink(wire.NewConn(nc), h.Terms), s)
	s.peer = peer
	defer s.dropAll()
	defer s.releaseAll()
	return peer.Serve()
}

// operations are the control requests that only drivers may send.
func (d *driver) operations() []protocol.Handler {
	return []protocol.Handler{protocol.On(d.deploy), protocol.On(d.remove), protocol.On(d.http)}
}

// remove deletes an application.
func (d *driver) remove(ctx context.Context, req protocol.Delete) (done protocol.Done, err error) {
	return done, d.node.Delete(ctx, req.Name)
}

// http has the node serve HTTP, if it does not yet.
func (d *driver) http(_ context.Context, req protocol.HTTP) (at protocol.Address, err error) {
	n := d.node
	n.mu.Lock()
	url := n.url
	n.mu.Unlock()
	if req.Port == nil || url != "" {
		return protocol.Address{URL: url}, nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(req.Host, strconv.Itoa(*req.Port)))
	if err != nil {
		return at, call.NewError(call.BadInput, err.Error())
	}
	url, failed, err := n.Serve(l)
	if err != nil {
		l.Close()
		return at, err
	}
	n.wg.Go(func() {
		select {
		case err := <-failed:
			n.log.Error("the HTTP listener has failed", "error", err)
		case <-n.ctx.Done():
		}
	})
	return protocol.Address{URL: url}, nil
}

func (d *driver) deploy(ctx context.Context, req protocol.Deploy) (at protocol.Address, err error) {
	n, a := d.node, req.App
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
		return at, call.NewError(call.BadInput, err.Error())
	}
	err = n.Deploy(ctx, App{Graph: g, RetryStated: true, Python: Python{
		Interpreter: a.Python, SysPath: a.SysPath, Dir: a.Dir, Env: a.Env, Blob: a.Blob,
	}})
	if err != nil { // the driver shows the text alone: it has to say where
		return at, call.NewError(call.AsError(err).Reason, err.Error())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return protocol.Address{URL: n.url}, nil
}

// blobCode stores a blob in the node's private directory under its digest, and gives what start_replica carries.
func (n *Node) blobCode(blob []byte) (code protocol.Code, err error) {
	n.mu.Lock()
	err = n.listenLocked()
	var dir string
	if err == nil {
		dir = filepath.Dir(n.socket.Path())
	}
	n.mu.Unlock()
	if err != nil {
		return code, err
	}
	sum := sha256.Sum256(blob)
	digest := hex.EncodeToString(sum[:])
	path := filepath.Join(dir, digest)
	if _, err := os.Stat(path); err != nil {
		tmp, err := os.CreateTemp(dir, "blob-")
		if err != nil {
			return code, err
		}
		_, err = tmp.Write(blob)
		if cerr := tmp.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			err = os.Rename(tmp.Name(), path)
		}
		if err != nil {
			return code, fmt.Errorf("the application's code cannot be stored: %w", err)
		}
	}
	return protocol.Code{Blob: path, Digest: digest}, nil
}
