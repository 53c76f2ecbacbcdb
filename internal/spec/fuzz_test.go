package spec

import (
	"encoding/json"
	"testing"
)

// FuzzGraph: a description of an application, as workers and executables send it, is refused or stays what it is when it is
// written and read again.
func FuzzGraph(f *testing.F) {
	f.Add([]byte(`{"app":"a","ingress":{"deployment":"D","method":"M"},"route_prefix":"/","deployments":[{"name":"D","language":"go",
		"receiver":"*T","methods":[{"name":"M","shape":"unary","in":"string","out":"int","in_kind":"string"}],"uses":["D"],
		"options":{"num_replicas":2,"graceful_shutdown_timeout_s":0.5,"user_config":{"x":[1]},"runtime_env":{"env_vars":{"A":"b"},"working_dir":"/"}}}]}`))
	f.Add([]byte(`{"app":"a","deployments":[{"name":"A","uses":["B"]},{"name":"B","uses":["A","A"]},{"name":"A"}]}`))
	f.Add([]byte(`{"deployments":[{"options":{"limits":{"memory":-1},"health_check_period_s":1e300}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var g, again Graph
		if json.Unmarshal(b, &g) != nil {
			return
		}
		valid := len(g.Validate()) == 0
		g.Cycles()
		g.GoWorker("")
		digest := g.Digest()
		if d := Diff(g, g, "here", "there"); len(d) > 0 {
			t.Fatalf("differs from itself: %q", d)
		}
		for _, d := range g.Deployments {
			d.Options.Effective()
		}
		out, err := json.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if again.Digest() != digest || len(again.Validate()) == 0 != valid {
			t.Fatalf("changes when it is written\n%s\n%q\n%v, %v", out, Diff(g, again, "first", "then"), g.Validate(), again.Validate())
		}
	})
}
