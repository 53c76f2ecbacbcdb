// The program of docs/mixed.md: python/tests/test_mixed_page.py runs it.
package main

import (
	"cmp"
	"context"
	"slices"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
)

// Embedder has the methods of the Python class that are called here.
type Embedder interface {
	Embed(ctx context.Context, texts []string) ([][]float64, error)
}

type Args struct{ TopK int }

type Ranker struct {
	embed helve.Method[[]string, [][]float64]
	args  Args
}

func newRanker(ctx context.Context) (*Ranker, error) {
	embedder, err := helve.Bound[Embedder](ctx, "embedder")
	if err != nil {
		return nil, err
	}
	args, err := helve.BoundArgs(ctx, Args{TopK: 10})
	return &Ranker{helve.MethodOf(embedder, Embedder.Embed), args}, err
}

type Query struct {
	Query string
	Docs  []string
}

func (r *Ranker) Rank(ctx context.Context, in Query) ([]string, error) {
	vectors, err := r.embed.Call(ctx, append([]string{in.Query}, in.Docs...))
	if err != nil {
		return nil, err
	}
	return best(vectors, in.Docs, r.args.TopK), nil
}

// best gives the documents whose vectors have the largest product with the first vector, that of the query.
func best(vectors [][]float64, docs []string, k int) []string {
	products := map[string]float64{}
	for i, d := range docs {
		products[d] = 0
		for j, v := range vectors[0] {
			products[d] += v * vectors[i+1][j]
		}
	}
	order := slices.Clone(docs)
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(products[b], products[a]) })
	return order[:min(k, len(order))]
}

func build() (*helve.App, error) {
	app := helve.NewApp("rank")
	helve.Deploy(app, "Ranker", newRanker, helve.Options{})
	return app, nil
}

func main() { cli.Main(cli.App("rank", build)) }
