package records_test

import (
	"log/slog"
	"testing"

	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// TestLeftRevisions: a delete of more records than one transaction takes may leave revisions when the node is killed in it. A later deploy of the name takes a number of its own.
func TestLeftRevisions(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), store.NewMemory()
	g := spec.Graph{App: "hello", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "python", Import: "m:D"}}}
	left, err := store.Encode(store.RevisionKey("hello", 3), store.Revision{Graph: g})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Txn(ctx, store.Txn{Then: []store.Op{left}}); err != nil {
		t.Fatal(err)
	}
	target := records.NewTarget(s, store.NewMemoryBlobs(), slog.New(slog.DiscardHandler))
	w, err := target.WriteDeploy(ctx, store.Revision{Graph: g}, records.Former{})
	if err != nil || w.Number != 4 {
		t.Fatalf("%+v, %v", w, err)
	}
}
