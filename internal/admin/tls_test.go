package admin

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// TestTLS: a listener off the loopback interface needs a certificate and a token for everything; without a certificate there is none.
func TestTLS(t *testing.T) {
	t.Parallel()
	o := operate(t)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Serve(l); err == nil || !strings.Contains(err.Error(), "there is no TLS") {
		t.Errorf("%v", err)
	}
	if _, err := ListenTCP("0.0.0.0:0", false); err == nil {
		t.Error("a listener without a certificate")
	}
	if l, err = ListenTCP("0.0.0.0:0", true); err != nil {
		t.Fatal(err)
	}
	issued := httptest.NewUnstartedServer(nil)
	issued.StartTLS()
	defer issued.Close()
	o.set.TLS = issued.TLS
	served := make(chan error, 1)
	go func() { served <- o.Serve(l) }()
	transport, _ := issued.Client().Transport.(*http.Transport)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for role, status := range map[helvetype.Role]int{"": 401, helvetype.RoleRead: 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1:"+port+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		if role != "" {
			req.Header.Set("Authorization", "Bearer "+o.tokens[role])
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("role %q: %d", role, resp.StatusCode)
		}
	}
	if resp, err := http.DefaultTransport.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+"/", nil)); err == nil {
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: %d", resp.StatusCode)
		}
		resp.Body.Close()
	}
	transport.CloseIdleConnections()
	o.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
