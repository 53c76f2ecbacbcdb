package node

import "testing"

// TestHTTPOfSeveralListeners: the URL of an ingress is one that a client needs no socket for, if there is one.
func TestHTTPOfSeveralListeners(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		urls []string
		want string
	}{
		{nil, ""},
		{[]string{"unix:/run/http.sock"}, "unix:/run/http.sock"},
		{[]string{"unix:/run/http.sock", "http://127.0.0.1:8000", "http://[::1]:8000"}, "http://127.0.0.1:8000"},
		{[]string{"https://[::1]:8000", "unix:/run/http.sock"}, "https://[::1]:8000"},
	} {
		if got := (&Node{urls: c.urls}).HTTP(); got != c.want {
			t.Errorf("%q: %q, want %q", c.urls, got, c.want)
		}
	}
}
