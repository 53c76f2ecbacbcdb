package main

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
)

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
