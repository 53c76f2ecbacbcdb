package claim

import (
	"sync"
	"testing"
)

// TestClaims: of two requests for the same applications the later has all of them, in each order of the names, and the other is told the author of the later.
func TestClaims(t *testing.T) {
	t.Parallel()
	t.Run("all at once", func(t *testing.T) {
		t.Parallel()
		for range 100 {
			var c Claims
			var both [2]map[string]*Claim
			var wg sync.WaitGroup
			for i, keys := range [][]string{{"a", "b", "c"}, {"c", "b", "a"}} {
				wg.Go(func() { both[i], _ = c.Take("ann", keys...) })
			}
			wg.Wait()
			first := both[0]["a"].Taken()
			for _, key := range []string{"a", "b", "c"} {
				if both[0][key].Taken() != first || both[1][key].Taken() == first {
					t.Fatalf("%s: each request has a part of the applications", key)
				}
			}
		}
	})
	t.Run("since", func(t *testing.T) {
		t.Parallel()
		var c Claims
		first, number := c.Take("ann", "a", Source("s"))
		if c.Since(number, "a") || c.Since(number, "b") || first["a"].Taken() {
			t.Error("a claim is no newer one")
		}
		c.Take("bob", "b")
		if !c.Since(number, "b") || first[Source("s")].Taken() {
			t.Error("an application that a newer request has claimed is not known")
		}
		c.Drop("b", "bob")
		if c.Since(number, "b") {
			t.Error("an application that was deleted has a claim")
		}
		c.Take("bob", Source("s"))
		if !first[Source("s")].Taken() || first["a"].Taken() {
			t.Error("the source, and it alone, is taken over")
		}
	})
}
