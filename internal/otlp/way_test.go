package otlp_test

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/otlp"
)

// clientFiles makes the files of a client's certificate, signed by itself, and the pool in which it is.
func clientFiles(t *testing.T, dir string) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	inKey, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	write(t, certificate, "CERTIFICATE", der)
	write(t, key, "PRIVATE KEY", inKey)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return certificate, key, pool
}

func write(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWay: spans go, compressed, to a receiver whose certificate is of an authority of its own, and that wants one of its clients. Without either the receiver gets nothing.
func TestWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key, clients := clientFiles(t, dir)
	names := make(chan string, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		z, err := gzip.NewReader(r.Body)
		if err != nil || r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v, headers %v", err, r.Header)
			return
		}
		body, err := io.ReadAll(z)
		var v struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []struct{ Name string } }
			}
		}
		if err != nil || json.Unmarshal(body, &v) != nil {
			t.Errorf("%v: %s", err, body)
			return
		}
		names <- v.ResourceSpans[0].ScopeSpans[0].Spans[0].Name
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	s.StartTLS()
	t.Cleanup(s.Close)
	authority := filepath.Join(dir, "ca.pem")
	write(t, authority, "CERTIFICATE", s.Certificate().Raw)
	env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.URL, "OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_EXPORTER_OTLP_TIMEOUT=60000", "OTEL_EXPORTER_OTLP_CERTIFICATE=" + authority}
	send := func(env []string, until func(e *otlp.Exporter)) (sent, dropped uint64) {
		settings, warnings := otlp.Environment(env)
		at, err := settings.Target()
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%v, warnings %q", err, warnings)
		}
		e := otlp.New(slog.New(slog.DiscardHandler), "1.2.3", settings.Way, nil)
		e.Use(at)
		add(e, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { // the spans that wait go at once at the end
			until(e)
			cancel()
		}()
		e.Run(ctx)
		return e.Counts()
	}
	name := ""
	received := func(e *otlp.Exporter) { // and answered: the end waits for an answer for a moment only
		name = <-names
		for sent, dropped := e.Counts(); sent+dropped == 0; sent, dropped = e.Counts() {
			<-time.After(time.Millisecond)
		}
	}
	if sent, dropped := send(append(env, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE="+certificate, "OTEL_EXPORTER_OTLP_CLIENT_KEY="+key), received); sent != 1 || dropped != 0 || name != "Ranker.Rank" {
		t.Fatalf("%d spans sent, of the name %q, %d dropped", sent, name, dropped)
	}
	for without, env := range map[string][]string{"the certificate of the client": env, "the authority": append(env[:3:3], "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE="+certificate, "OTEL_EXPORTER_OTLP_CLIENT_KEY="+key)} {
		if sent, dropped := send(env, func(*otlp.Exporter) {}); sent != 0 || dropped != 1 {
			t.Errorf("without %s: %d spans sent, %d dropped", without, sent, dropped)
		}
	}
}

// TestWayOfVariables: each variable about the way, its form for traces, and its mistakes, which have no effect.
func TestWayOfVariables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key, _ := clientFiles(t, dir)
	for env, c := range map[string]struct {
		want     otlp.Way
		warnings string
	}{
		"COMPRESSION=none":                         {},
		"COMPRESSION=none TRACES_COMPRESSION=gzip": {want: otlp.Way{Compressed: true}},
		"COMPRESSION=zstd":                         {warnings: `OTEL_EXPORTER_OTLP_COMPRESSION: must be gzip or none, is "zstd"`},
		"TIMEOUT=2500":                             {want: otlp.Way{Timeout: 2500 * time.Millisecond}},
		"TRACES_TIMEOUT=10s":                       {warnings: `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: must be a number of milliseconds, 1 or more, is "10s"`},
		"TIMEOUT=0":                                {warnings: "OTEL_EXPORTER_OTLP_TIMEOUT: must be a number"},
		"CERTIFICATE=" + certificate:               {want: otlp.Way{Authorities: certificate}},
		"CERTIFICATE=" + key:                       {warnings: key + " has no certificate in PEM"},
		"CERTIFICATE=/none":                        {warnings: "OTEL_EXPORTER_OTLP_CERTIFICATE: open /none"},
		"CLIENT_CERTIFICATE=" + certificate + " CLIENT_KEY=" + key: {want: otlp.Way{Certificate: certificate, Key: key}},
		"CLIENT_CERTIFICATE=" + certificate:                        {warnings: "needs OTEL_EXPORTER_OTLP_CLIENT_KEY"},
		"TRACES_CLIENT_KEY=" + key:                                 {warnings: "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY: needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"},
		"CLIENT_CERTIFICATE=" + key + " CLIENT_KEY=" + key:         {warnings: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: tls"},
	} {
		var entries []string
		for _, e := range strings.Fields(env) {
			entries = append(entries, "OTEL_EXPORTER_OTLP_"+e)
		}
		s, warnings := otlp.Environment(entries)
		text := strings.Join(warnings, "; ")
		if s.Way != c.want || (text == "") != (c.warnings == "") || !strings.Contains(text, c.warnings) {
			t.Errorf("%s: %+v, warnings %q", env, s.Way, text)
		}
		if over := (otlp.Settings{Endpoint: "https://own"}).Over(s); over.Way != c.want {
			t.Errorf("%s: an endpoint of its own has the way %+v", env, over.Way)
		}
	}
}
