package rest

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestTokensOfAClient: a client whose user has the token of a node sends no request without it, keeps the token that the node took, and goes without one where
// the user has none.
func TestTokensOfAClient(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		tokens []string
		needed string   // by the node
		want   []string // tokens of the requests, of two questions
	}{
		{"its token", []string{"mine"}, "mine", []string{"mine", "mine"}},
		{"the second of two", []string{"old", "mine"}, "mine", []string{"old", "mine", "mine"}},
		{"none", nil, "", []string{"", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var got []string
			node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				token := r.Header.Get("Authorization")
				if token != "" {
					token = token[len("Bearer "):]
				}
				mu.Lock()
				got = append(got, token)
				mu.Unlock()
				if token != c.needed {
					w.WriteHeader(http.StatusUnauthorized)
				}
			}))
			defer node.Close()
			client, err := Open(node.URL, Access{Tokens: func() []string { return c.tokens }})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := client.Get(t.Context(), "/", nil, nil); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("requests with the tokens %q, want %q", got, c.want)
			}
		})
	}
}

// TestRedirects: a client does not carry its token to where an answer leads.
func TestRedirects(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked for %s with %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer other.Close()
	first := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer first.Close()
	c, err := Open(first.URL, Access{Token: "helve_x"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.About(t.Context()); err == nil {
		t.Error("a redirect is an answer")
	}
}

// TestCurl: the command line reads the node from a shell, whatever the path of its socket.
func TestCurl(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"/tmp/helve-1/admin.sock": "curl --unix-socket /tmp/helve-1/admin.sock http://localhost/calls",
		"unix:/tmp/my dir/a.sock": "curl --unix-socket '/tmp/my dir/a.sock' http://localhost/calls",
		"/tmp/it's/a.sock":        `curl --unix-socket '/tmp/it'\''s/a.sock' http://localhost/calls`,
		"127.0.0.1:8265":          "curl http://127.0.0.1:8265/calls",
		"http://127.0.0.1:8265/":  "curl http://127.0.0.1:8265/calls",
	} {
		c, err := Dial(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Curl("/calls"); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// TestDial: addresses that lead nowhere.
func TestDial(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "nonsense", "ftp://127.0.0.1:1", "https://user@127.0.0.1:1", "http://127.0.0.1:1/path", "127.0.0.1"} {
		if _, err := Dial(address); err == nil {
			t.Errorf("%q is an address", address)
		}
	}
	c, err := Dial(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.About(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "no node answers at /") {
		t.Error(err)
	}
}
