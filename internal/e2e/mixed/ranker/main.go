// The program of docs/mixed.md: python/tests/test_mixed_page.py runs it.
package main

import (
	"context"
	"slices"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
	"github.com/helve-serve/helve/helvetype"
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

func build() (*helve.App, error) {
	app := helve.NewApp("rank")
	helve.Deploy(app, "Ranker", newRanker, helve.Options{})
	return app, nil
}

func main() { cli.Main(cli.App("rank", build)) }

// Mean takes an array of numpy of two dimensions, and gives one of one dimension.
func (r *Ranker) Mean(_ context.Context, m helvetype.Array[float32]) (helvetype.Array[float32], error) {
	mean := make([]float32, m.Shape[1])
	for i := range m.Shape[0] {
		for j, v := range m.Row(i) {
			mean[j] += v / float32(m.Shape[0])
		}
	}
	return helvetype.NewArray(mean, len(mean)), nil
}

// best are the k documents whose vectors have the largest products with the first vector, which is the query's.
func best(vectors [][]float64, docs []string, k int) []string {
	order := make([]int, len(docs))
	for i := range order {
		order[i] = i
	}
	score := func(i int) (sum float64) {
		for j, v := range vectors[0] {
			sum += v * vectors[i+1][j]
		}
		return sum
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch x, y := score(a), score(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	out := make([]string, 0, k)
	for _, i := range order[:min(k, len(order))] {
		out = append(out, docs[i])
	}
	return out
}
