package control_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/control"
)

// TestParts: deployments of one application of an executable come from one part, whether the program names the application or not. The deployments
// that these use are those that the program has bound.
func TestParts(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		ranker, scorer string
		loads          int
	}{{"", "rank", 1}, {"rank", "", 2}, {"", "", 1}} {
		t.Run(fmt.Sprintf("%q and %q", x.ranker, x.scorer), func(t *testing.T) {
			t.Parallel()
			n := &node{}
			body := fmt.Sprintf(`{"app":{"name":"shop","ingress":"Ranker","deployments":[
				{"name":"Ranker","go":{"build":"/x","app":%q,"class":"Ranker"}}, {"name":"Scorer","go":{"build":"/x","app":%q,"class":"Scorer"}}]}}`, x.ranker, x.scorer)
			if _, err := control.NewDriver(n, new(control.Owners), new(claim.Claims)).Control(t.Context(), "deploy", json.RawMessage(body)); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range n.got.Graph.Deployments {
				got = append(got, d.Name+" "+d.Import)
			}
			if want := "[Ranker exec:/x#rank Scorer exec:/x#rank]"; fmt.Sprint(got) != want || len(n.got.Parts) != 1 || n.loaded != x.loads {
				t.Errorf("%v of %d parts after %d loads, want %v of one after %d", got, len(n.got.Parts), n.loaded, want, x.loads)
			}
		})
	}
}
