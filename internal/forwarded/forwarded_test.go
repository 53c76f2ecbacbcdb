package forwarded

import (
	"net/http"
	"net/url"
	"testing"
)

// TestOriginal: the headers of a trusted peer say who the client is, and the headers of others mean nothing.
func TestOriginal(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		trust           []string
		from, chain     string
		address, scheme string
	}{
		"a trusted peer":            {[]string{"10.0.0.0/8"}, "10.0.0.9:80", "203.0.113.7", "203.0.113.7:0", "https"},
		"a peer that is not":        {[]string{"10.0.0.0/8"}, "192.0.2.1:80", "203.0.113.7", "192.0.2.1:80", "http"},
		"a chain of proxies":        {[]string{"10.0.0.0/8"}, "10.0.0.9:80", "6.6.6.6, 203.0.113.7, 10.0.0.8", "203.0.113.7:0", "https"},
		"an address alone":          {[]string{"10.0.0.9"}, "10.0.0.9:80", "203.0.113.7", "203.0.113.7:0", "https"},
		"a unix socket":             {[]string{"unix"}, "@", "203.0.113.7", "203.0.113.7:0", "https"},
		"a unix socket, not listed": {[]string{"10.0.0.0/8"}, "@", "203.0.113.7", "@", "http"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trusted, err := Networks(x.trust)
			if err != nil {
				t.Fatal(err)
			}
			r := &http.Request{RemoteAddr: x.from, URL: &url.URL{Scheme: "http"}, Header: http.Header{
				"X-Forwarded-For": {x.chain}, "X-Forwarded-Proto": {"https"},
			}}
			got := trusted.Original(r)
			if got.RemoteAddr != x.address || got.URL.Scheme != x.scheme {
				t.Errorf("client %s by %s, want %s by %s", got.RemoteAddr, got.URL.Scheme, x.address, x.scheme)
			}
			if r.RemoteAddr != x.from || r.URL.Scheme != "http" {
				t.Errorf("the request itself was changed: %s by %s", r.RemoteAddr, r.URL.Scheme)
			}
		})
	}
}

// TestNetworks: a text that is no network is refused.
func TestNetworks(t *testing.T) {
	t.Parallel()
	if _, err := Networks([]string{"10.0.0.0/99"}); err == nil {
		t.Error("10.0.0.0/99 is taken for a network")
	}
}
