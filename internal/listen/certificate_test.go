package listen

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// issue writes a certificate for the name, signed by itself, and its key into a directory.
func issue(t *testing.T, dir, name string) Files {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := Files{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for path, block := range map[string]*pem.Block{f.Certificate: {Type: "CERTIFICATE", Bytes: der}, f.Key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// text is a log that may be read while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(b)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// name is the name in the certificate that the next handshake gets.
func (c *Certificate) name(t *testing.T) string {
	t.Helper()
	config, err := c.Config().GetConfigForClient(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return config.Certificates[0].Leaf.Subject.CommonName
}

// TestCertificateFollowsItsFiles: a new certificate is taken, a bad one is not, and the log says once why.
func TestCertificateFollowsItsFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := issue(t, dir, "first")
		var log text
		c, err := NewCertificate(f, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.Watch(ctx)
		look := func() {
			time.Sleep(watchInterval)
			synctest.Wait()
		}
		look()
		if c.name(t) != "first" {
			t.Errorf("%s", c.name(t))
		}
		issue(t, dir, "second")
		if look(); c.name(t) != "second" {
			t.Errorf("%s", c.name(t))
		}
		if err := os.WriteFile(f.Key, []byte("no key"), 0o600); err != nil {
			t.Fatal(err)
		}
		if look(); strings.Contains(log.String(), "not valid") {
			t.Errorf("files that may be half written are reported: %s", &log)
		}
		look()
		look()
		if n := strings.Count(log.String(), "not valid"); n != 1 || c.name(t) != "second" {
			t.Errorf("%d reports, %s: %s", n, c.name(t), &log)
		}
		if err := c.Reload(); err == nil || !strings.Contains(err.Error(), f.Key) {
			t.Errorf("%v", err)
		}
		os.Remove(f.Key) //nolint:errcheck // the report counts
		look()
		look()
		if n := strings.Count(log.String(), "not valid"); n != 2 || c.name(t) != "second" {
			t.Errorf("%d reports, %s: %s", n, c.name(t), &log)
		}
		issue(t, dir, "third")
		if err := c.Reload(); err != nil || c.name(t) != "third" {
			t.Errorf("%s %v", c.name(t), err)
		}
	})
}

// TestCertificateOfOtherFiles: a server changes to other files while it serves, and keeps its own if those are wrong.
func TestCertificateOfOtherFiles(t *testing.T) {
	t.Parallel()
	one, two := issue(t, t.TempDir(), "one"), issue(t, t.TempDir(), "two")
	c, err := NewCertificate(one, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Use(Files{Certificate: two.Certificate, Key: one.Key}); err == nil || c.Files() != one || c.name(t) != "one" {
		t.Errorf("a key of another certificate: %v, %s", err, c.name(t))
	}
	if err := c.Use(two); err != nil || c.Files() != two || c.name(t) != "two" {
		t.Errorf("other files: %v, %s", err, c.name(t))
	}
	three := issue(t, t.TempDir(), "three")
	for from, to := range map[string]string{three.Certificate: two.Certificate, three.Key: two.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Reload(); err != nil || c.name(t) != "three" {
		t.Errorf("the other files after a change: %v, %s", err, c.name(t))
	}
}

// TestCertificateMistakes: each mistake names its field.
func TestCertificateMistakes(t *testing.T) {
	t.Parallel()
	good, other := issue(t, t.TempDir(), "x"), issue(t, t.TempDir(), "y")
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		files Files
		want  string
	}{
		"no key":              {Files{Certificate: good.Certificate}, "Key: is missing"},
		"no certificate":      {Files{Key: good.Key}, "Certificate: is missing"},
		"client CA alone":     {Files{ClientCA: text}, "ClientCA: needs Certificate and Key"},
		"password alone":      {Files{KeyPassword: "x"}, "KeyPassword: needs Key"},
		"no file":             {Files{Certificate: text + "-", Key: good.Key}, "Certificate: open "},
		"no PEM":              {Files{Certificate: text, Key: good.Key}, "Certificate: " + text + ": has no certificate"},
		"no key in PEM":       {Files{Certificate: good.Certificate, Key: text}, "Certificate: " + good.Certificate + " with the key " + text},
		"key of another":      {Files{Certificate: good.Certificate, Key: other.Key}, "private key does not match"},
		"client CA of no PEM": {Files{Certificate: good.Certificate, Key: good.Key, ClientCA: text}, "ClientCA: " + text + ": has no certificate"},
		"encrypted key":       {Files{Certificate: "testdata/cert.pem", Key: "testdata/pkcs8.pem"}, "Key: testdata/pkcs8.pem: is encrypted, and there is no password"},
		"wrong password":      {Files{Certificate: "testdata/cert.pem", Key: "testdata/pkcs8.pem", KeyPassword: "wrong"}, "Key: testdata/pkcs8.pem: the password does not decrypt"},
		"wrong old password":  {Files{Certificate: "testdata/cert.pem", Key: "testdata/old.pem", KeyPassword: "wrong"}, "Key: testdata/old.pem: the password does not decrypt"},
	} {
		_, err := NewCertificate(test.files, slog.New(slog.DiscardHandler))
		if m, ok := errors.AsType[*Mistake](err); !ok || !strings.Contains(err.Error(), test.want) || m.Field == "" {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

// TestEncryptedKeys reads keys as openssl writes them (testdata/README.md).
func TestEncryptedKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"pkcs8.pem", "sha1.pem", "old.pem"} {
		c, err := NewCertificate(Files{Certificate: "testdata/cert.pem", Key: "testdata/" + key, KeyPassword: "secret"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Errorf("%s: %v", key, err)
		} else if c.name(t) != "localhost" {
			t.Errorf("%s", c.name(t))
		}
	}
}

func FuzzEncryptedKey(f *testing.F) {
	for _, key := range []string{"pkcs8.pem", "sha1.pem", "old.pem"} {
		b, err := os.ReadFile("testdata/" + key)
		if err != nil {
			f.Fatal(err)
		}
		if block, _ := pem.Decode(b); block != nil {
			f.Add(block.Bytes)
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) < 1<<12 && !bytes.Contains(der, []byte{0x02, 0x03}) { // three bytes of iterations take seconds
			decryptPKCS8(der, "secret") //nolint:errcheck // it must not panic
		}
	})
}
