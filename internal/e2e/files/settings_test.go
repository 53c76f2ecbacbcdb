package files_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/proxy"
)

// TestApplySettings changes the settings of a node by files.
func TestApplySettings(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	p.write("slow.py", "import asyncio\nfrom helve import serve\n\n@serve.deployment\nclass Slow:\n    async def __call__(self, request):\n        await asyncio.sleep(3600)\n\napp = Slow.bind()\n")
	const apps = "applications:\n- {name: shop, import_path: 'shop:app', route_prefix: /shop}\n- {name: slow, import_path: 'slow:app', route_prefix: /slow}\n"
	a, err := p.apply("http_options: {root_path: /v1, port: 1}\ntarget_capacity: 50\n" + apps)
	if err != nil {
		t.Fatal(err)
	}
	if warnings := strings.Join(a.Warnings, "\n"); !strings.Contains(warnings, "the node listens on "+p.url) {
		t.Errorf("the warnings are %q", warnings)
	}
	if got := p.get("/v1/shop"); !strings.HasPrefix(got, "3 ") {
		t.Errorf("below the root path it answers %q", got)
	}
	if _, err := p.apply("http_options: {root_path: /v1, request_timeout_s: 0.05}\ntarget_capacity: 50\n" + apps); err != nil {
		t.Fatal(err)
	}
	if got := p.get("/slow"); !strings.Contains(got, "0.05") && !strings.Contains(got, "50ms") {
		t.Errorf("a request over its time is answered %q", got)
	}
	before := p.Generation()
	a, err = p.apply("applications: [{name: other, import_path: 'shop:app', route_prefix: /other}]", func(r *helvetype.ApplyRequest) { r.Source = "other" })
	if err != nil {
		t.Fatal(err)
	}
	if a.Generation == before {
		t.Error("a new application has left the generation")
	}
	s, err := p.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.TargetCapacity == nil || *s.TargetCapacity != 50 || !strings.Contains(string(s.HTTPOptions), `"root_path":"/v1"`) {
		t.Errorf("the settings are %+v, %s", s, s.HTTPOptions)
	}
	if _, err := p.apply(apps); err != nil {
		t.Fatal(err)
	}
	if s, err = p.Settings(t.Context()); err != nil || s.TargetCapacity != nil || !strings.Contains(string(s.HTTPOptions), `"root_path":"/v1"`) {
		t.Errorf("after a file without them the settings are %+v, %s, %v", s, s.HTTPOptions, err)
	}
}

// TestApplyTracing: the sampler and the time of a slow request change while the node runs, and a file without them puts them back.
func TestApplyTracing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	const apps = "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop}]\n"
	apply := func(settings, want string) {
		t.Helper()
		if _, err := p.apply(settings + apps); err != nil {
			t.Fatal(err)
		}
		if s, err := p.Settings(t.Context()); err != nil || string(s.TracingConfig) != want {
			t.Errorf("the settings are %s, %v; want %s", s.TracingConfig, err, want)
		}
	}
	sampled := func() int {
		t.Helper()
		list, err := p.Requests(t.Context(), helvetype.RequestQuery{Kept: helvetype.KeptSampled})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Requests)
	}
	const many = 20 // more than the slowest of a route, which are kept without a sampler
	ask := func() {
		for range many {
			p.get("/shop")
		}
	}
	apply("tracing_config: {enabled: true, sampling_ratio: 1, slow_request_s: 0}\n", `{"enabled":true,"sampling_ratio":1,"slow_request_s":0}`)
	ask()
	fixture.Eventually(t, func() string {
		if n := sampled(); n != many {
			return fmt.Sprintf("%d requests are kept, want %d", n, many)
		}
		return ""
	})
	apply("tracing_config: {enabled: false, sampling_ratio: 1}\n", `{"enabled":false,"sampling_ratio":1}`)
	ask()
	if n := sampled(); n != many {
		t.Errorf("%d requests are sampled without a sampler, beside %d from before", n-many, many)
	}
	change := func(c helvetype.TracingChange, ratio, slow float64, settings string) { // as a command does
		t.Helper()
		if got, err := p.Tracing(t.Context(), helvetype.Author{Name: "ann"}, &c); err != nil || got.Ratio != ratio || got.SlowFrom != slow {
			t.Errorf("the tracing is %+v, %v", got, err)
		}
		if s, err := p.Settings(t.Context()); err != nil || string(s.TracingConfig) != settings {
			t.Errorf("the settings are %s, %v; want %s", s.TracingConfig, err, settings)
		}
	}
	change(helvetype.TracingChange{Ratio: new(1.0)}, 1, 1, `{"enabled":true,"sampling_ratio":1}`)
	ask()
	fixture.Eventually(t, func() string {
		if n := sampled(); n != 2*many {
			return fmt.Sprintf("%d requests are kept, want %d", n, 2*many)
		}
		return ""
	})
	change(helvetype.TracingChange{SlowFrom: new(0.25)}, 1, 0.25, `{"enabled":true,"sampling_ratio":1,"slow_request_s":0.25}`)
	change(helvetype.TracingChange{Reset: true}, 0, 1, "{}")
	if _, err := p.Tracing(t.Context(), helvetype.Author{Name: "ann"}, &helvetype.TracingChange{Ratio: new(2.0)}); err == nil || !strings.Contains(err.Error(), "sampling_ratio: must be from 0 to 1, is 2") {
		t.Errorf("a wrong ratio: %v", err)
	}
	apply("", "{}")
}

// TestApplyReceiver: files change the receiver of spans and its headers while the node runs. The value of a header is a secret, and a value that cannot be read changes nothing.
func TestApplyReceiver(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	const token = "s3cret-token-of-the-receiver"
	file := filepath.Join(p.dir, "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	receiver := func() (url string, headers chan string) {
		headers = make(chan string, 100)
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header.Get("Token") }))
		t.Cleanup(s.Close)
		return s.URL, headers
	}
	first, ofFirst := receiver()
	second, ofSecond := receiver()
	config := func(url, headers string) string {
		return "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop}]\ntracing_config:\n  enabled: true\n  sampling_ratio: 1\n  otlp_endpoint: " + url + "\n  otlp_headers: " + headers + "\n"
	}
	receives := func(headers chan string, want string) {
		t.Helper()
		p.get("/shop")
		select {
		case got := <-headers:
			if got != want {
				t.Errorf("the header is %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Error("no spans come")
		}
	}
	if _, err := p.apply(config(first, "{Token: '${file:"+file+"}'}")); err != nil {
		t.Fatal(err)
	}
	receives(ofFirst, token)
	s, err := p.Settings(t.Context())
	if err != nil || strings.Contains(string(s.TracingConfig), token) || !strings.Contains(string(s.TracingConfig), "${file:") {
		t.Errorf("the settings: %s %v", s.TracingConfig, err)
	}
	_, err = p.apply(config(second, "{Token: '${file:/is/not/there}'}"))
	if err == nil || !strings.Contains(err.Error(), "serve.yaml:6:25: ${file:/is/not/there}") {
		t.Errorf("a header that cannot be read: %v", err)
	}
	receives(ofFirst, token)
	if _, err := p.apply(config(second, "{Token: plain}")); err != nil {
		t.Fatal(err)
	}
	receives(ofSecond, "plain")
	if s, err = p.Settings(t.Context()); err != nil || strings.Contains(string(s.TracingConfig), "plain") {
		t.Errorf("the settings: %s %v", s.TracingConfig, err)
	}
	for text, want := range map[string]string{
		config("collector:4318", "{}"):                    "must be a URL such as http://127.0.0.1:4318",
		config("''", "{Token: x}"):                        "otlp_headers needs otlp_endpoint",
		config(first, "{Token: 1}"):                       "must be a header's name with a text",
		config(first, "{Token: '${env:X'}"):               "${env:X",
		config(first, "[a]"):                              "must have fields",
		strings.Replace(config(first, "{}"), "1", "2", 1): "must be at most 1",
	} {
		if _, err := p.apply(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// issue writes a certificate for the name, signed by itself, and its key into the directory of the place, as NAME.pem and NAME.key.
func issue(t *testing.T, dir, name string) listen.Files {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := listen.Files{Certificate: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	for path, block := range map[string]*pem.Block{f.Certificate: {Type: "CERTIFICATE", Bytes: der}, f.Key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// certificateName is the name in the certificate that a new connection to the node gets.
func (p *place) certificateName() string {
	p.t.Helper()
	u, err := url.Parse(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(p.t.Context(), "tcp", u.Host) //nolint:gosec // the name alone is of interest
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName //nolint:forcetypeassert // of a tls.Dialer
}

// TestApplyCertificate: a file changes the files of the certificate while the node serves. Wrong ones are a mistake at their line, and change nothing.
func TestApplyCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := issue(t, dir, "one"), issue(t, dir, "two")
	certificate, err := listen.NewCertificate(one, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, func(s *node.Settings) { s.Certificate, s.HTTPOptions = certificate, proxy.Options{TLS: one} })
	p.write("cert-path", two.Certificate)
	file := "http_options:\n  ssl_certfile: ${file:" + filepath.Join(p.dir, "cert-path") + "}\n  ssl_keyfile: " + two.Key + "\napplications: []\n"
	r := helvetype.ApplyRequest{Config: file, Name: "serve.yaml", Dir: p.dir}
	plan, err := p.Plan(t.Context(), r)
	if err != nil || len(plan.Settings) != 2 || plan.Settings[0].Path != "http_options.ssl_certfile" || len(plan.Warnings) != 0 {
		t.Errorf("the plan is %+v, %v", plan, err)
	}
	if name := p.certificateName(); name != "one" {
		t.Errorf("after a plan the certificate is of %q", name)
	}
	if a, err := p.apply(file); err != nil || len(a.Warnings) != 0 {
		t.Errorf("the answer is %+v, %v", a, err)
	}
	if name := p.certificateName(); name != "two" {
		t.Errorf("after the file the certificate is of %q", name)
	}
	for what, wrong := range map[string]string{
		"no file":       "http_options:\n  ssl_certfile: /srv/none.pem\n  ssl_keyfile: " + two.Key + "\napplications: []\n",
		"another's key": "http_options:\n  ssl_certfile: " + two.Certificate + "\n  ssl_keyfile: " + one.Key + "\napplications: []\n",
	} {
		if _, err := p.apply(wrong); err == nil || !strings.Contains(err.Error(), "serve.yaml:2:") || !strings.Contains(err.Error(), "http_options.ssl_certfile: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if name := p.certificateName(); name != "two" {
		t.Errorf("after a mistake the certificate is of %q", name)
	}
}

// TestSettingsOfARefusedFile: a plan shows the settings of a file and warns of those that the node does not take; a file of which no application is taken leaves the settings as they were.
func TestSettingsOfARefusedFile(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("shop.py", shop)
	p.write("broken.py", "raise RuntimeError('no model')\n")
	const shopFile = "http_options: {root_path: /v1}\napplications: [{name: shop, import_path: 'shop:app', route_prefix: /shop}]"
	same(t, p.applied(shopFile), map[string]string{"shop": "created 1"})
	before := p.Generation()
	for what, application := range map[string]string{
		"a module with a mistake":          "{name: other, import_path: 'broken:app', route_prefix: /other}",
		"the route of another application": "{name: other, import_path: 'shop:app', route_prefix: /shop}",
	} {
		file := "http_options: {root_path: /v2, port: 1, ssl_certfile: a, ssl_keyfile: b}\ntarget_capacity: 10\nlogging_config: {log_level: DEBUG}\napplications: [" + application + "]"
		_, err := p.apply(file, func(r *helvetype.ApplyRequest) { r.Source = "other" })
		if err == nil {
			t.Errorf("%s: it was applied", what)
		}
		s, err := p.Settings(t.Context())
		if err != nil || s.TargetCapacity != nil || string(s.HTTPOptions) != `{"root_path":"/v1"}` || string(s.LoggingConfig) != "{}" {
			t.Errorf("%s: the settings are %+v, %s, %v", what, s, s.HTTPOptions, err)
		}
		if got := p.get("/v1/shop"); !strings.HasPrefix(got, "3 ") {
			t.Errorf("%s: the application that runs answers %q", what, got)
		}
	}
	plan, err := p.Plan(t.Context(), helvetype.ApplyRequest{Name: "serve.yaml", Dir: p.dir, Source: "other", Config: "http_options: {root_path: /v2, port: 1, ssl_certfile: a, ssl_keyfile: b}\napplications: []"})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, c := range plan.Settings {
		paths = append(paths, c.Path+" "+string(c.Before)+" "+string(c.After)+": "+c.Update)
	}
	same(t, paths, []string{"http_options.port  1: start of the node", `http_options.root_path "/v1" "/v2": in place`, `http_options.ssl_certfile  "a": start of the node`, `http_options.ssl_keyfile  "b": start of the node`})
	for _, want := range []string{"the node listens on " + p.url + " and goes on there: helve stop, and then helve start --http 127.0.0.1:1,", "helve start --tls-certificate FILE --tls-key FILE"} {
		if warnings := strings.Join(plan.Warnings, "\n"); !strings.Contains(warnings, want) {
			t.Errorf("the warnings are %q, without %q", warnings, want)
		}
	}
	if p.Generation() < before {
		t.Error("the generation goes back")
	}
}

// TestIdleTimeOfAFile: a file ends idle connections of a node that serves after a shorter time.
func TestIdleTimeOfAFile(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	if _, err := p.apply("http_options: {keep_alive_timeout_s: 0.01}\napplications: []\n"); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/-/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.Write(c); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1<<10); err == nil; { // until the node closes it
		_, err = c.Read(b)
	}
	if !strings.Contains(err.Error(), "EOF") {
		t.Error(err)
	}
}

// TestLogLevelOfAFile: the logging_config of a file sets the level of the node's own log, and a file without it gives the level back.
func TestLogLevelOfAFile(t *testing.T) {
	t.Parallel()
	log := fixture.NewLog()
	p := newPlace(t, func(s *node.Settings) { s.Logger = slog.New(log) })
	p.write("shop.py", shop)
	const apps = "applications: [{name: shop, import_path: 'shop:app', route_prefix: /shop}]"
	if _, err := p.apply("logging_config: {log_level: ERROR}\n" + apps); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Contains(text, "level=INFO") {
		t.Errorf("the log has %s", text)
	}
	if _, err := p.apply(strings.Replace(apps, "shop,", "again,", 1)); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); !strings.Contains(text, "level=INFO") {
		t.Errorf("the log has %s", text)
	}
}

// TestPlanOfTargetCapacity: a file that changes the target capacity alone changes the numbers of replicas in its plan.
func TestPlanOfTargetCapacity(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("four.py", "from helve import serve\n\n\n@serve.deployment(num_replicas=2)\nclass Two:\n    pass\n\n\napp = Two.bind()\n")
	file := "applications: [{name: two, import_path: 'four:app', route_prefix: null}]\n"
	p.applied(file)
	plan, err := p.Plan(t.Context(), helvetype.ApplyRequest{Config: "target_capacity: 50\n" + file, Name: "serve.yaml", Dir: p.dir})
	if err != nil || len(plan.Applications) != 1 || plan.Applications[0].Change != "changed" {
		t.Fatalf("%+v, %v", plan, err)
	}
	if d := plan.Applications[0].Deployments[0]; d.Wanted != 2 || d.Next != 1 || d.Update != "nothing" {
		t.Errorf("%+v", d)
	}
}
