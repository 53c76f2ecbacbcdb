package attach

import (
	"slices"
	"testing"
)

// TestURLsOfAddresses: a node knows its address as a URL with a number, and commands take other forms too.
func TestURLsOfAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string][]string{
		"127.0.0.1:8265":         {"http://127.0.0.1:8265"},
		"http://127.0.0.1:8265/": {"http://127.0.0.1:8265"},
		"https://node-1:8265":    {"https://node-1:8265"},
		"localhost:8265":         {"http://127.0.0.1:8265", "http://[::1]:8265"},
		"https://LOCALHOST:1":    {"https://127.0.0.1:1", "https://[::1]:1"},
	} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			if got := urlsOf(address); !slices.Equal(got, want) {
				t.Errorf("%v", got)
			}
		})
	}
}
