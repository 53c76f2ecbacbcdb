package records_test

import (
	"log/slog"
	"testing"

	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// TestGeneration looks at which writes change the generation of the target.
func TestGeneration(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	target := records.NewTarget(store.NewMemory(), store.NewMemoryBlobs(), slog.New(slog.DiscardHandler))
	target.Durable = true
	g := spec.Graph{App: "hello", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "python", Import: "m:D"}}}
	before := target.Generation()
	w, err := target.WriteDeploy(ctx, store.Revision{Graph: g}, records.Former{})
	if err != nil {
		t.Fatal(err)
	}
	deployed := target.Generation()
	if deployed <= before {
		t.Errorf("the generation of a deploy is %d, and was %d before", deployed, before)
	}
	if err := target.End(ctx, g, w); err != nil {
		t.Fatal(err)
	}
	if now := target.Generation(); now != deployed {
		t.Errorf("the end of a deploy has changed the generation from %d to %d", deployed, now)
	}
	s, err := target.WriteScale(ctx, "hello", "D", store.Scale{Replicas: 2, By: "test", Reason: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	if now := target.Generation(); now != uint64(s.Modified) || now <= deployed {
		t.Errorf("the generation is %d after a write of revision %d, and was %d before", now, s.Modified, deployed)
	}
}
