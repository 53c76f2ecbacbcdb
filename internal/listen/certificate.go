package listen

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files are the files of a server's certificate, in PEM. The zero value is no TLS.
type Files struct {
	Certificate string // the certificate, and after it those of its issuers
	Key         string // the private key
	KeyPassword string // of an encrypted key; "" for a key that is not encrypted
	ClientCA    string // the authorities whose clients may connect; "" for all clients, without a certificate
}

// Mistake is an error of one file, with the name of its field.
type Mistake struct {
	Field string
	Err   error
}

func (m *Mistake) Error() string { return m.Field + ": " + m.Err.Error() }

// Unwrap returns the error of the file.
func (m *Mistake) Unwrap() error { return m.Err }

// Check returns an error if files are missing that the others need.
func (f Files) Check() error {
	switch {
	case f.Certificate == "" && f.Key != "":
		return &Mistake{"Certificate", errors.New("is missing; a key needs its certificate")}
	case f.Certificate != "" && f.Key == "":
		return &Mistake{"Key", errors.New("is missing; a certificate needs its key")}
	case f.Certificate == "" && f.ClientCA != "":
		return &Mistake{"ClientCA", errors.New("needs Certificate and Key: without them there is no TLS")}
	case f.Key == "" && f.KeyPassword != "":
		return &Mistake{"KeyPassword", errors.New("needs Key")}
	}
	return nil
}

// watchInterval is the time between two looks at the files of a certificate. They are a few kilobytes, so they are read and compared
// instead of watched: that also sees the links that Kubernetes changes in a volume, and files on a network.
const watchInterval = 5 * time.Second

// Certificate is the TLS of a server, whose files may change while it serves: new connections get the new certificate, and open
// connections go on. If the new files are not valid, the old certificate stays.
type Certificate struct {
	files  Files
	log    *slog.Logger
	config atomic.Pointer[tls.Config]

	mu       sync.Mutex
	loaded   [sha256.Size]byte // digest of the files that are in use
	failure  string            // the error of the last look and the digest of its files; "" for none
	reported bool              // the log has the failure
}

// NewCertificate reads the files.
func NewCertificate(f Files, log *slog.Logger) (*Certificate, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	c := &Certificate{files: f, log: log}
	read, err := f.read()
	if err != nil {
		return nil, err
	}
	config, err := read.config(f)
	if err != nil {
		return nil, err
	}
	c.config.Store(config)
	c.loaded = read.digest()
	return c, nil
}

// Config is the configuration of a listener. Every handshake takes the certificate of its moment.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.config.Load(), nil },
	}
}

var protocols = []string{"h2", "http/1.1"} //nolint:gochecknoglobals // a constant

// Files are the files that are in use.
func (c *Certificate) Files() Files {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files
}

// Use replaces the files by others. If those are not valid it returns an error, and the files before stay in use.
func (c *Certificate) Use(f Files) error {
	next, err := NewCertificate(f, c.log)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f == c.files {
		return nil
	}
	c.files, c.loaded, c.failure = f, next.loaded, ""
	c.config.Store(next.config.Load())
	c.log.Info("the certificate has other files", "file", f.Certificate)
	return nil
}

// Reload reads the files again, and returns the error of files that are not valid; then the certificate before stays in use.
func (c *Certificate) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.reloadLocked()
	return err
}

func (c *Certificate) reloadLocked() (digest [sha256.Size]byte, err error) {
	read, err := c.files.read()
	if err != nil {
		return digest, err
	}
	if digest = read.digest(); digest == c.loaded {
		return digest, nil
	}
	config, err := read.config(c.files)
	if err != nil {
		return digest, err
	}
	c.config.Store(config)
	c.loaded = digest
	c.log.Info("the certificate has changed", "file", c.files.Certificate, "expires", config.Certificates[0].Leaf.NotAfter)
	return digest, nil
}

// Watch reloads the files when they change, until ctx ends.
func (c *Certificate) Watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.look()
		case <-ctx.Done():
			return
		}
	}
}

// look reloads the files if they have changed, and logs an error once. Files that are not valid are reported if they are the same at the
// second look: for example, a certificate that was written a moment before its key does not fit the old key, and is no news.
func (c *Certificate) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	digest, err := c.reloadLocked()
	if err == nil {
		c.failure = ""
		return
	}
	if failure := err.Error() + string(digest[:]); failure != c.failure {
		c.failure, c.reported = failure, false
	} else if !c.reported {
		c.reported = true
		c.log.Error("the new files of the certificate are not valid, the certificate before stays in use", "error", err)
	}
}

// contents are the bytes of the files.
type contents struct{ certificate, key, clientCA []byte }

func (f Files) read() (c contents, err error) {
	for _, of := range []struct {
		field, path string
		to          *[]byte
	}{{"Certificate", f.Certificate, &c.certificate}, {"Key", f.Key, &c.key}, {"ClientCA", f.ClientCA, &c.clientCA}} {
		if of.path == "" {
			continue
		}
		if *of.to, err = os.ReadFile(of.path); err != nil {
			return c, &Mistake{of.field, err}
		}
	}
	return c, nil
}

func (c contents) digest() [sha256.Size]byte {
	parts := make([]byte, 0, 3*sha256.Size)
	for _, b := range [][]byte{c.certificate, c.key, c.clientCA} {
		sum := sha256.Sum256(b)
		parts = append(parts, sum[:]...)
	}
	return sha256.Sum256(parts)
}

// config makes the configuration of handshakes.
func (c contents) config(f Files) (*tls.Config, error) {
	key, err := decrypted(c.key, f.KeyPassword)
	if err != nil {
		return nil, &Mistake{"Key", fmt.Errorf("%s: %w", f.Key, err)}
	}
	if !bytes.Contains(c.certificate, []byte("-----BEGIN CERTIFICATE-----")) {
		return nil, &Mistake{"Certificate", fmt.Errorf("%s: has no certificate in PEM", f.Certificate)}
	}
	pair, err := tls.X509KeyPair(c.certificate, key)
	if err != nil {
		return nil, &Mistake{"Certificate", fmt.Errorf("%s with the key %s: %w", f.Certificate, f.Key, err)}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{pair}}
	if f.ClientCA != "" {
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !config.ClientCAs.AppendCertsFromPEM(c.clientCA) {
			return nil, &Mistake{"ClientCA", fmt.Errorf("%s: has no certificate in PEM", f.ClientCA)}
		}
	}
	return config, nil
}
