package ingress_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// mirror is a handler that says how it sees its request. Under /to it redirects.
type mirror struct{}

func (mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/to" {
		http.Redirect(w, r, "/there", http.StatusFound)
		return
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	fmt.Fprintf(w, "%s %s %s %s %s", r.URL.Scheme, r.Host, host, r.URL.Path, helve.RoutePrefixFrom(r.Context()))
}

func buildMirror() (*helve.App, error) {
	app := helve.NewApp("mirror")
	h := helve.Deploy(app, "Teller", func(context.Context) (mirror, error) { return mirror{}, nil }, helve.Options{})
	app.Ingress(helve.HTTP(h))
	app.RoutePrefix("/tell")
	return app, nil
}

func runMirror(t *testing.T, c helve.Config) *helve.System {
	t.Helper()
	s, err := c.Run(t.Context(), buildMirror)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// told is the answer to a request.
func told(t *testing.T, c *http.Client, r *http.Request) string {
	t.Helper()
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func ask(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// issued is a certificate that is signed by an authority, and their files.
type issued struct {
	cert, key, ca string
	pool          *x509.CertPool
	pair          tls.Certificate
}

// issue writes the certificate of a name into a directory. It is its own authority.
func issue(t *testing.T, dir, name string) issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	i := issued{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), ca: filepath.Join(dir, "cert.pem"), pool: x509.NewCertPool()}
	certPEM, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	for path, b := range map[string][]byte{i.cert: certPEM, i.key: keyPEM} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	i.pool.AppendCertsFromPEM(certPEM)
	if i.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return i
}

// TestTLS: both protocols by ALPN, with the scheme in the request; plain HTTP is refused; a certificate that changes is taken by new connections
// while an open one goes on, and a bad one is not taken.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := issue(t, dir, "first")
	s := runMirror(t, helve.Config{HTTP: "127.0.0.1:0", HTTPOptions: helve.HTTPOptions{TLS: helve.TLS{Certificate: first.cert, Key: first.key}}})
	url, _ := s.HTTP()
	if !strings.HasPrefix(url, "https://") {
		t.Fatal(url)
	}
	client := func(i issued, h2 bool) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: i.pool}, Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(!h2)
		tr.Protocols.SetHTTP2(h2)
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	host := strings.TrimPrefix(url, "https://")
	want := "https " + host + " 127.0.0.1 / /tell"
	open := map[string]*http.Client{"HTTP/1.1": client(first, false), "HTTP/2.0": client(first, true)}
	for proto, c := range open {
		r, err := c.Get(url + "/tell")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.Proto != proto || string(b) != want {
			t.Errorf("%s: %s %s", proto, r.Proto, b)
		}
	}
	if r, err := http.Get("http://" + host + "/tell"); err != nil || r.StatusCode != 400 {
		t.Errorf("plain HTTP: %v %v", r, err)
	} else {
		r.Body.Close()
	}
	second := issue(t, dir, "second")
	if err := s.ReloadCertificate(); err != nil {
		t.Fatal(err)
	}
	for proto, c := range open { // the connections of before
		if got := told(t, c, ask(t, url+"/tell")); got != want {
			t.Errorf("%s after the reload: %s", proto, got)
		}
	}
	if got := told(t, client(second, true), ask(t, url+"/tell")); got != want {
		t.Errorf("%s", got)
	}
	if err := os.WriteFile(second.cert, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ReloadCertificate(); err == nil || !strings.Contains(err.Error(), "Certificate: "+second.cert) {
		t.Errorf("%v", err)
	}
	if got := told(t, client(second, false), ask(t, url+"/tell")); got != want {
		t.Errorf("%s", got)
	}
}

// TestClientCertificates: with ClientCA only clients with a certificate of it are served.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	i, other := issue(t, t.TempDir(), "node"), issue(t, t.TempDir(), "client")
	s := runMirror(t, helve.Config{HTTP: "127.0.0.1:0", HTTPOptions: helve.HTTPOptions{TLS: helve.TLS{Certificate: i.cert, Key: i.key, ClientCA: other.ca}}})
	url, _ := s.HTTP()
	for name, test := range map[string]struct {
		pairs []tls.Certificate
		ok    bool
	}{"none": {}, "of another": {[]tls.Certificate{i.pair}, false}, "known": {[]tls.Certificate{other.pair}, true}} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: i.pool, Certificates: test.pairs}}
		r, err := (&http.Client{Transport: tr}).Get(url + "/tell")
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			r.Body.Close()
		}
		tr.CloseIdleConnections()
	}
}

// TestAddresses: TCP and unix sockets at once, a socket that was left behind, and the listener of a program.
func TestAddresses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	s := runMirror(t, helve.Config{HTTP: "127.0.0.1:0, unix:" + path})
	urls := s.URLs()
	if len(urls) != 2 || urls[1] != "unix:"+path {
		t.Fatalf("%q", urls)
	}
	if got := told(t, http.DefaultClient, ask(t, urls[0]+"/tell/x")); got != " "+strings.TrimPrefix(urls[0], "http://")+" 127.0.0.1 /x /tell" {
		t.Errorf("%s", got)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	if got := told(t, &http.Client{Transport: tr}, ask(t, "http://any/tell/y")); got != " any  /y /tell" {
		t.Errorf("%s", got)
	}
	if _, _, err := s.Serve("unix:" + path); err == nil {
		t.Error("a socket on which a process listens was taken")
	}
	i := issue(t, t.TempDir(), "node")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{i.pair}}
	if _, _, err := s.ServeListener(tls.NewListener(l, config), nil); err == nil || !strings.Contains(err.Error(), "the listener under it") {
		t.Errorf("%v", err)
	}
	if _, _, err := s.ServeListener(nil, nil); err == nil {
		t.Error("nil was taken")
	}
	url, _, err := s.ServeListener(l, config)
	if err != nil {
		t.Fatal(err)
	}
	secure := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: i.pool}, ForceAttemptHTTP2: true}
	defer secure.CloseIdleConnections()
	if got := told(t, &http.Client{Transport: secure}, ask(t, url+"/tell")); got != "https "+l.Addr().String()+" 127.0.0.1 / /tell" {
		t.Errorf("%s", got)
	}
}

// TestHandlerInARouter: the whole ingress is one handler of a program's router, below a path of it; redirects have that path in front, and
// connections can be taken over.
func TestHandlerInARouter(t *testing.T) {
	t.Parallel()
	s := runMirror(t, helve.Config{HTTPOptions: helve.HTTPOptions{RootPath: "/models"}})
	mux := http.NewServeMux()
	mux.Handle("/models/", http.StripPrefix("/models", s.Handler()))
	mux.Handle("/whole/", s.Handler()) // the root path may be there or not
	mux.HandleFunc("/own", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own") })
	server := httptest.NewServer(mux)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for path, want := range map[string]string{
		"/models/tell/x":    " " + host + " 127.0.0.1 /x /models/tell",
		"/models/-/healthz": "success",
		"/models/-/routes":  `{"/tell":"mirror"}`,
		"/own":              "own",
	} {
		if got := told(t, server.Client(), ask(t, server.URL+path)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	r, err := http.DefaultTransport.RoundTrip(ask(t, server.URL+"/models/tell/to"))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if to := r.Header.Get("Location"); to != "/models/tell/there" {
		t.Errorf("Location: %s", to)
	}
}

// TestRootPath: paths with the root path and without it are served, and it stands in front in the handler's prefix.
func TestRootPath(t *testing.T) {
	t.Parallel()
	s := runMirror(t, helve.Config{HTTP: "127.0.0.1:0", HTTPOptions: helve.HTTPOptions{RootPath: "/serve"}})
	url, _ := s.HTTP()
	for path, want := range map[string]string{
		"/serve/tell/a%2Fb": "/a/b /serve/tell", "/tell/x": "/x /serve/tell", "/serve/-/healthz": "success", "/-/healthz": "success", "/server/tell": "not found",
	} {
		if got := told(t, http.DefaultClient, ask(t, url+path)); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestForwarded: the headers of a peer that is trusted say the address of the client, and the headers of other peers mean nothing.
func TestForwarded(t *testing.T) {
	t.Parallel()
	headers := http.Header{
		"X-Forwarded-For": {"6.6.6.6, 203.0.113.7", "127.0.0.9"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"shop.example"},
	}
	for name, test := range map[string]struct {
		trust []string
		want  string
	}{
		"nobody":      {nil, " %s 127.0.0.1 / /tell"},
		"another":     {[]string{"10.0.0.0/8", "unix"}, " %s 127.0.0.1 / /tell"},
		"the network": {[]string{"10.0.0.0/8", "127.0.0.0/8"}, "https shop.example 203.0.113.7 / /tell"},
		"the peer":    {[]string{"127.0.0.1"}, "https shop.example 127.0.0.9 / /tell"},
		"all of them": {[]string{"0.0.0.0/0"}, "https shop.example 6.6.6.6 / /tell"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := runMirror(t, helve.Config{HTTP: "127.0.0.1:0", HTTPOptions: helve.HTTPOptions{TrustForwarded: test.trust}})
			url, _ := s.HTTP()
			r := ask(t, url+"/tell")
			r.Header = headers.Clone()
			want := test.want
			if strings.Contains(want, "%s") {
				want = fmt.Sprintf(want, strings.TrimPrefix(url, "http://"))
			}
			if got := told(t, http.DefaultClient, r); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// TestForwardedOnAUnixSocket: the clients of a unix socket have no address; they are trusted by the word unix.
func TestForwardedOnAUnixSocket(t *testing.T) {
	t.Parallel()
	for trust, want := range map[string]string{"unix": "https any 203.0.113.7 / /tell", "0.0.0.0/0": " any  / /tell"} {
		path := filepath.Join(t.TempDir(), "s")
		runMirror(t, helve.Config{HTTP: "unix:" + path, HTTPOptions: helve.HTTPOptions{TrustForwarded: []string{trust}}})
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
		r := ask(t, "http://any/tell")
		r.Header = http.Header{"X-Forwarded-For": {"203.0.113.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"a/b"}}
		if got := told(t, &http.Client{Transport: tr}, r); got != want {
			t.Errorf("%s: %q, want %q", trust, got, want)
		}
		tr.CloseIdleConnections()
	}
}

// TestMistakesOfHTTPOptions: each names its field.
func TestMistakesOfHTTPOptions(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]helve.Config{
		"HTTPOptions: RequestTimeout: must not be negative":                    {HTTPOptions: helve.HTTPOptions{RequestTimeout: -1}},
		"HTTPOptions: DrainDelay: must not be negative":                        {HTTPOptions: helve.HTTPOptions{DrainDelay: -1}},
		`HTTPOptions: RootPath: "x": must begin with /`:                        {HTTPOptions: helve.HTTPOptions{RootPath: "x"}},
		`HTTPOptions: RootPath: must be empty for no path, is "/"`:             {HTTPOptions: helve.HTTPOptions{RootPath: "/"}},
		`HTTPOptions: TrustForwarded: "10.0.0.0/99" is no network`:             {HTTPOptions: helve.HTTPOptions{TrustForwarded: []string{"10.0.0.0/99"}}},
		`HTTPOptions: AccessLogFormat: must be text or json, is "xml"`:         {HTTPOptions: helve.HTTPOptions{AccessLogFormat: "xml"}},
		"HTTPOptions: TLS.Key: is missing":                                     {HTTPOptions: helve.HTTPOptions{TLS: helve.TLS{Certificate: "x"}}},
		"HTTPOptions: TLS.Certificate: open /does/not/exist":                   {HTTPOptions: helve.HTTPOptions{TLS: helve.TLS{Certificate: "/does/not/exist", Key: "x"}}},
		"HTTP: address nonsense: missing port":                                 {HTTP: "127.0.0.1:0,nonsense"},
		"HTTP: unix:: the path of a unix socket must have":                     {HTTP: "unix:"},
		"HTTP: listen unix /does/not/exist/s: bind: no such file or directory": {HTTP: "unix:/does/not/exist/s"},
	} {
		s, err := c.Run(t.Context(), buildMirror)
		if err == nil {
			s.Close(t.Context()) //nolint:errcheck // it must not be there
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestDrainDelay: after the beginning of Close the node says that it drains and serves, over HTTP/1.1 with connections that end, and over HTTP/2
// with a GOAWAY; then its address is free.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	s, err := helve.Config{HTTP: "127.0.0.1:0", HTTPOptions: helve.HTTPOptions{DrainDelay: time.Hour}}.Run(t.Context(), buildMirror)
	if err != nil {
		t.Fatal(err)
	}
	url, _ := s.HTTP()
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	if got := told(t, &http.Client{Transport: h2}, ask(t, url+"/tell")); !strings.Contains(got, "/tell") {
		t.Fatal(got)
	}
	ctx, cut := context.WithCancel(t.Context())
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	for {
		r, err := http.Get(url + "/-/healthz")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode == 503 && string(b) == "This node is being drained." {
			break
		}
	}
	for range 3 { // new connections, because each ends
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET /tell HTTP/1.1\r\nHost: x\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || r.StatusCode != 200 || !r.Close {
			t.Errorf("%v %v", r, err)
		}
		conn.Close()
	}
	for range 3 {
		if got := told(t, &http.Client{Transport: h2}, ask(t, url+"/tell")); !strings.Contains(got, "/tell") {
			t.Error(got)
		}
	}
	cut() // the second signal
	<-closed
	if c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
		c.Close()
		t.Error("the address is still open")
	}
}

// TestDrainLosesNothing: clients that send all the time, over both protocols, and stop some requests after the node calls itself unhealthy, as a load balancer
// does, have every answer.
func TestDrainLosesNothing(t *testing.T) {
	t.Parallel()
	s, err := helve.Config{HTTP: "127.0.0.1:0", HTTPOptions: helve.HTTPOptions{DrainDelay: time.Hour}}.Run(t.Context(), buildMirror)
	if err != nil {
		t.Fatal(err)
	}
	url, _ := s.HTTP()
	var sending sync.WaitGroup
	var begun atomic.Int64
	for i := range 8 {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(i%2 == 0)
		tr.Protocols.SetUnencryptedHTTP2(i%2 == 1)
		client := &http.Client{Transport: tr}
		sending.Go(func() {
			defer tr.CloseIdleConnections()
			for left := 20; left > 0; {
				r, err := client.Post(url+"/tell", "text/plain", strings.NewReader("x")) // a request that a client must not send again
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, r.Body) //nolint:errcheck // the status counts
				r.Body.Close()
				if r.StatusCode != 200 {
					t.Errorf("%s", r.Status)
				}
				begun.Add(1)
				if r, err = client.Get(url + "/-/healthz"); err != nil {
					t.Error(err)
					return
				}
				r.Body.Close()
				if r.StatusCode == 503 {
					left--
				}
			}
		})
	}
	fixture.Eventually(t, func() string {
		if n := begun.Load(); n < 100 {
			return fmt.Sprintf("%d requests", n)
		}
		return ""
	})
	ctx, cut := context.WithCancel(context.Background())
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	sending.Wait()
	cut() // the end of the delay: no request is left
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
