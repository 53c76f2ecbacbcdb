// The ingress of examples/search: it ranks documents by their meaning for a query. The Python program search.py binds it.
package main

import (
	"cmp"
	"context"
	"slices"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
)

// Embedder is the Python class that makes embeddings: vectors of length 1, whose products are large for texts of similar meaning.
type Embedder interface {
	Embed(ctx context.Context, text string) ([]float32, error)
}

// Args are the arguments that the Python program binds beside the handle.
type Args struct{ Documents []string }

// Ranker has the documents with their embeddings.
type Ranker struct {
	embed     helve.Method[string, []float32]
	documents []string
	vectors   [][]float32
}

func newRanker(ctx context.Context) (*Ranker, error) {
	embedder, err := helve.Bound[Embedder](ctx, "embedder")
	if err != nil {
		return nil, err
	}
	args, err := helve.BoundArgs(ctx, Args{})
	if err != nil {
		return nil, err
	}
	r := &Ranker{embed: helve.MethodOf(embedder, Embedder.Embed), documents: args.Documents}
	calls := make([]*helve.Response[[]float32], len(r.documents)) // all at once, so that the embedder has full batches
	for i, d := range r.documents {
		calls[i] = r.embed.Remote(ctx, d)
	}
	r.vectors, err = helve.All(ctx, calls...)
	return r, err
}

// Query is the body of a request, as JSON.
type Query struct {
	Query string
	Top   int // the number of documents, 0 for three
}

// Hit is a document of an answer.
type Hit struct {
	Document string
	Score    float32 // the cosine, at most 1
}

// Search gives the documents that are nearest to the query in meaning, the best first.
func (r *Ranker) Search(ctx context.Context, q Query) ([]Hit, error) {
	if q.Query == "" {
		return nil, helve.Public(helve.InvalidArgument, "the field query is missing")
	}
	v, err := r.embed.Call(ctx, q.Query)
	if err != nil {
		return nil, err
	}
	hits := make([]Hit, len(r.documents))
	for i, d := range r.documents {
		hits[i] = Hit{d, product(v, r.vectors[i])}
	}
	slices.SortFunc(hits, func(a, b Hit) int { return cmp.Compare(b.Score, a.Score) })
	return hits[:min(max(cmp.Or(q.Top, 3), 0), len(hits))], nil
}

func product(a, b []float32) (sum float32) {
	for i, x := range a {
		sum += x * b[i]
	}
	return sum
}

func build() (*helve.App, error) {
	app := helve.NewApp("search")
	ranker := helve.Deploy(app, "Ranker", newRanker, helve.Options{MaxOngoingRequests: new(64)})
	app.Ingress(helve.MethodOf(ranker, (*Ranker).Search))
	return app, nil
}

func main() { cli.Main(cli.App("search", build)) }
