package admin

import (
	"net/http"
	"net/http/httptest"
	"slices"
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
