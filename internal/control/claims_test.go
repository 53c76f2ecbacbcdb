package control

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
			var both [2]map[string]*claim
			var wg sync.WaitGroup
			for i, keys := range [][]string{{"a", "b", "c"}, {"c", "b", "a"}} {
				wg.Go(func() { both[i], _ = c.take("ann", keys...) })
			}
			wg.Wait()
			first := both[0]["a"].taken()
			for _, key := range []string{"a", "b", "c"} {
				if both[0][key].taken() != first || both[1][key].taken() == first {
					t.Fatalf("%s: each request has a part of the applications", key)
				}
			}
		}
	})
	t.Run("since", func(t *testing.T) {
		t.Parallel()
		var c Claims
		first, number := c.take("ann", "a", sourceClaim("s"))
		if c.since(number, "a") || c.since(number, "b") || first["a"].taken() {
			t.Error("a claim is no newer one")
		}
		c.take("bob", "b")
		if !c.since(number, "b") || first[sourceClaim("s")].taken() {
			t.Error("an application that a newer request has claimed is not known")
		}
		c.drop("b", "bob")
		if c.since(number, "b") {
			t.Error("an application that was deleted has a claim")
		}
		c.take("bob", sourceClaim("s"))
		if !first[sourceClaim("s")].taken() || first["a"].taken() {
			t.Error("the source, and it alone, is taken over")
		}
	})
}
