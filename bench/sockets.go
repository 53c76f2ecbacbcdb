package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/wire"
)

// The kinds of sockets that rows are taken over. TLS is TLS 1.3 over TCP, with a certificate on both sides.
const (
	overUnix = "unix"
	overTCP  = "TCP"
	overTLS  = "TLS"
)

func kinds() []string { return []string{overUnix, overTCP, overTLS} }

// end is where a client finds a server.
type end struct {
	kind, addr string
	tls        *tls.Config
}

func (e end) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	switch e.kind {
	case overUnix:
		return d.DialContext(ctx, "unix", e.addr)
	case overTCP:
		return d.DialContext(ctx, "tcp", e.addr)
	}
	return wire.DialTLS(ctx, e.addr, e.tls)
}

// listen is what a role listens on; sock is the path of its unix socket.
func listen(kind, sock string, cfg *tls.Config) (net.Listener, error) {
	switch kind {
	case overUnix:
		return net.Listen("unix", sock)
	case overTCP:
		return net.Listen("tcp", "127.0.0.1:0")
	}
	return wire.ListenTLS("127.0.0.1:0", cfg)
}

// serveEach lets a role serve every kind of socket, and says where.
func serveEach(serve func(kind, sock string, cfg *tls.Config) (net.Listener, error)) error {
	_, cfg, err := configs([]byte(os.Getenv(identityEnv)))
	if err != nil {
		return err
	}
	var addrs []string
	for _, kind := range kinds() {
		l, err := serve(kind, os.Getenv(socketEnv), cfg)
		if err != nil {
			return err
		}
		addrs = append(addrs, l.Addr().String())
	}
	return ready(strings.Join(addrs, " "))
}

// accept serves every connection to l.
func accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

// ends starts a role, until the group ends, and says where it serves each kind of socket.
func (b *bench) ends(role string) (map[string]end, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	id, err := newIdentity()
	if err != nil {
		return nil, err
	}
	cfg, _, err := configs(id)
	if err != nil {
		return nil, err
	}
	line, err := b.serve(role, socketEnv+"="+filepath.Join(dir, role), identityEnv+"="+string(id))
	if err != nil {
		return nil, err
	}
	addrs := strings.Fields(line)
	if len(addrs) != len(kinds()) {
		return nil, fmt.Errorf("%s serves %q", role, line)
	}
	all := map[string]end{}
	for i, kind := range kinds() {
		all[kind] = end{kind, addrs[i], cfg}
	}
	return all, nil
}

// host is the name in the certificate.
const host = "bench"

// newIdentity is a certificate for both sides of a connection, which is its own authority, with its key.
func newIdentity() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), nil
}

func configs(identity []byte) (client, server *tls.Config, err error) {
	cert, err := tls.X509KeyPair(identity, identity)
	if err != nil {
		return nil, nil, err
	}
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM(identity)
	both := tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	client, server = both.Clone(), both.Clone()
	client.RootCAs, client.ServerName = authority, host
	server.ClientCAs, server.ClientAuth = authority, tls.RequireAndVerifyClientCert
	return client, server, nil
}
