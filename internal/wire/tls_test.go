package wire

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
	"testing"
	"time"
)

// certificates makes an authority, and a certificate of it that is good for both sides.
func certificates(t testing.TB) (cert tls.Certificate, authority *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"node"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	authority = x509.NewCertPool()
	authority.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authority
}

// tlsPair is two ends of a TLS connection after its handshake.
func tlsPair(t testing.TB, server, client *tls.Config) (a, b net.Conn, err error) {
	t.Helper()
	l, err := ListenTLS("127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type accepted struct {
		nc  net.Conn
		err error
	}
	got := make(chan accepted, 1)
	go func() {
		nc, err := l.Accept()
		if err == nil {
			err = nc.(*tls.Conn).HandshakeContext(context.Background())
		}
		got <- accepted{nc, err}
	}()
	b, err = DialTLS(t.Context(), l.Addr().String(), client)
	if err != nil {
		return nil, nil, err
	}
	r := <-got
	t.Cleanup(func() { b.Close(); r.nc.Close() })
	return r.nc, b, r.err
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, authority := certificates(t)
	accepts := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: authority}
	client := &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: authority, ServerName: "node"}
	a, b, err := tlsPair(t, accepts, client)
	if err != nil {
		t.Fatal(err)
	}
	c, d, err := tlsPair(t, accepts, client)
	if err != nil {
		t.Fatal(err)
	}
	if v := b.(*tls.Conn).ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("version %#x", v)
	}
	p, q := NewLinkPeer(NewLink(NewConn(a), bulkTerms), &server{}), NewLinkPeer(NewLink(NewConn(b), bulkTerms), &server{})
	if err := errors.Join(p.Attach(c), q.Attach(d)); err != nil {
		t.Fatal(err)
	}
	serve(t, p)
	serve(t, q)
	echoes(t, p, q)
	stranger, _ := certificates(t)
	if _, _, err := tlsPair(t, accepts, &tls.Config{Certificates: []tls.Certificate{stranger}, RootCAs: authority, ServerName: "node"}); err == nil {
		t.Error("a stranger's certificate was taken")
	}
	for _, cfg := range []*tls.Config{{}, {RootCAs: authority}, {Certificates: client.Certificates}, {Certificates: client.Certificates, RootCAs: authority, InsecureSkipVerify: true}} {
		if _, err := DialTLS(t.Context(), "127.0.0.1:1", cfg); !errors.Is(err, ErrTLSConfig) {
			t.Error(err)
		}
		if _, err := ListenTLS("127.0.0.1:0", cfg); !errors.Is(err, ErrTLSConfig) {
			t.Error(err)
		}
	}
}
