package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
)

// ErrTLSConfig is a TLS configuration that would not prove who both sides are.
var ErrTLSConfig = errors.New("a connection between nodes needs a certificate and the authority of the other side's")

// DialTLS connects with TLS 1.3 and a certificate on both sides. cfg holds this side's certificate, the authority of the
// other side's (RootCAs) and its name (ServerName); it is not changed. The result carries an opening, and then a [Conn]:
// without a descriptor of its own to write to, everything is written by a goroutine.
func DialTLS(ctx context.Context, addr string, cfg *tls.Config) (net.Conn, error) {
	if len(cfg.Certificates) == 0 && cfg.GetClientCertificate == nil || cfg.RootCAs == nil || cfg.InsecureSkipVerify {
		return nil, ErrTLSConfig
	}
	cfg = cfg.Clone()
	cfg.MinVersion = tls.VersionTLS13
	d := tls.Dialer{Config: cfg}
	return d.DialContext(ctx, "tcp", addr)
}

// ListenTLS is the other side of [DialTLS]: cfg holds this side's certificate and the authority of the diallers' (ClientCAs).
// The handshake is made by the first read of a connection, so that Accept waits for nobody; the opening bounds its time.
func ListenTLS(addr string, cfg *tls.Config) (net.Listener, error) {
	if len(cfg.Certificates) == 0 && cfg.GetCertificate == nil || cfg.ClientCAs == nil {
		return nil, ErrTLSConfig
	}
	cfg = cfg.Clone()
	cfg.MinVersion = tls.VersionTLS13
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	return tls.Listen("tcp", addr, cfg)
}
