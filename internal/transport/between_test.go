package transport_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/transport"
	"github.com/helve-serve/helve/internal/wire"
)

// kind is how a client is joined with a site.
type kind struct {
	name string
	pair func(t testing.TB) (a, b net.Conn) // nil: they are one node
}

func kinds(t testing.TB) []kind {
	return []kind{{"local", nil}, {"pipe", pipe}, {"unix", socketPair}, {"tls", secured(t)}}
}

func pipe(testing.TB) (a, b net.Conn) { return net.Pipe() }

func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		out[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return out[0], out[1]
}

// secured makes TCP connections with TLS 1.3 and a certificate on both sides.
func secured(t testing.TB) func(t testing.TB) (a, b net.Conn) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{"node"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	authority := x509.NewCertPool()
	authority.AddCert(parsed)
	cert := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	return func(t testing.TB) (a, b net.Conn) {
		l, err := wire.ListenTLS("127.0.0.1:0", &tls.Config{Certificates: cert, ClientCAs: authority})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		accepted := make(chan net.Conn, 1)
		go func() {
			nc, err := l.Accept()
			if err == nil {
				nc.(*tls.Conn).HandshakeContext(context.Background())
			}
			accepted <- nc
		}()
		a, err = wire.DialTLS(context.Background(), l.Addr().String(), &tls.Config{Certificates: cert, RootCAs: authority, ServerName: "node"})
		if err != nil {
			t.Fatal(err)
		}
		return a, <-accepted
	}
}

// opened makes the opening of a connection between nodes.
func opened(t testing.TB, a, b net.Conn, connection string) (x, y wire.Terms) {
	t.Helper()
	features := []string{wire.FeatureBulk, wire.FeatureNodes}
	token := wire.NewToken()
	type result struct {
		h   wire.Hello
		err error
	}
	done := make(chan result, 1)
	go func() {
		h, err := wire.Offer{Version: "v", Node: "there", Features: features}.Accept(b, func(wire.Hello) (wire.Token, error) { return token, nil })
		done <- result{h, err}
	}()
	w, err := wire.Open(a, token, wire.Hello{Kind: "node", ID: "here", Connection: connection, Features: features})
	r := <-done
	if err := errors.Join(err, r.err); err != nil {
		t.Fatal(err)
	}
	if !w.Terms.Nodes || !r.h.Terms.Nodes {
		t.Fatal("not agreed on")
	}
	return w.Terms, r.h.Terms
}

// road is a connection between a client and a site.
type road struct {
	far          *transport.Far // nil in one node
	client, site *wire.Peer
}

// nobody is a client that calls nothing.
func nobody(t testing.TB) *client { return newClient(t) }

// wrap stands between a connection and its user: ours is the client's end.
type wrap func(nc net.Conn, ours, bulk bool) net.Conn

// join lets c call s. When the test ends, both ends are closed, and nothing of them is left.
func join(t testing.TB, k kind, c *client, s *site, through wrap) *road {
	t.Helper()
	if k.pair == nil {
		c.add(nil, "local", s.gate, s)
		return &road{}
	}
	var x, y *wire.Peer
	for _, connection := range []string{wire.ConnSmall, wire.ConnBulk} {
		a, b := k.pair(t)
		ta, tb := opened(t, a, b, connection)
		bulk := connection == wire.ConnBulk
		if through != nil {
			a, b = through(a, true, bulk), through(b, false, bulk)
		}
		if bulk {
			if err := errors.Join(x.Attach(a), y.Attach(b)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		x = wire.NewLinkPeer(wire.NewLink(wire.NewConn(a), ta), c)
		y = wire.NewLinkPeer(wire.NewLink(wire.NewConn(b), tb), nobody(t))
		transport.NewNeighbour(x, nil, c)
		transport.NewNeighbour(y, nil, nobody(t))
		t.Cleanup(func() {
			x.Close(wire.ErrClosed)
			y.Close(wire.ErrClosed)
			<-x.Done()
			<-y.Done()
			s.shared.Forget(y)
		})
	}
	go x.Serve()
	go y.Serve()
	if err := s.shared.Share(y); err != nil {
		t.Fatal(err)
	}
	return &road{<-c.joined, x, y}
}

// everywhere runs a test over every kind. Over pipes it runs in a bubble, which finds what is left behind.
func everywhere(t *testing.T, body func(t *testing.T, k kind)) {
	t.Parallel()
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			if k.name == "pipe" {
				synctest.Test(t, func(t *testing.T) { body(t, k) })
				return
			}
			body(t, k)
		})
	}
}

// idle checks that every slot is free once nobody is connected any more.
func idle(t testing.TB, sites ...*site) {
	t.Helper()
	t.Cleanup(func() { // runs after those that were registered later
		for _, s := range sites {
			if n := s.gate.Load(); n != 0 || s.running != 0 {
				t.Errorf("%d slots are taken, %d calls run", n, s.running)
			}
		}
	})
}

var _ transport.Members = (*client)(nil)
var _ call.Sink = (*journey)(nil)
