package main

import (
	"cmp"
	"fmt"
	"slices"
)

// Neighbours classifies by the k nearest training samples: T. Cover and P. Hart, "Nearest neighbor pattern
// classification", IEEE Transactions on Information Theory 13 (1967). It does not change once made, so its methods may be
// called from any goroutine.
type Neighbours struct {
	k     int
	scale scale
	rows  []row
}

// NewNeighbours keeps the samples; k is from 1 to as many as there are. Their order does not matter.
func NewNeighbours(training []Sample, k int) (*Neighbours, error) {
	if k < 1 || k > len(training) {
		return nil, fmt.Errorf("%d nearest neighbours of %d samples: want at least 1 and at most all", k, len(training))
	}
	// Sorted, so that neither the rounding of the scale nor the choice between neighbours that are equally far depends on
	// the order in which the samples came.
	sorted := slices.SortedFunc(slices.Values(training), func(a, b Sample) int {
		x, y := a.features(), b.features()
		return cmp.Or(slices.Compare(x[:], y[:]), cmp.Compare(a.Species, b.Species))
	})
	m := &Neighbours{k: k, scale: newScale(sorted)}
	m.rows = standardise(&m.scale, sorted)
	return m, nil
}

// Probabilities is which share of the k nearest neighbours of f is of each species (T. Hastie, R. Tibshirani and J.
// Friedman, "The Elements of Statistical Learning", 2nd edition, formula 2.8). Of neighbours that are equally far, the
// one with the smaller measurements counts as nearer.
func (m *Neighbours) Probabilities(f Flower) [NumSpecies]float64 {
	var votes [NumSpecies]float64
	for _, near := range m.nearest(m.scale.apply(f)) {
		votes[near.species]++
	}
	for s := range votes {
		votes[s] /= float64(m.k)
	}
	return votes
}

// neighbour is a training sample at the square of its Euclidean distance.
type neighbour struct {
	distance float64
	species  Species
}

// nearest finds the k nearest by looking at all rows. With the hundred or so that there are, a tree would cost more than
// it saves.
func (m *Neighbours) nearest(x [NumFeatures]float64) []neighbour {
	found := make([]neighbour, 0, m.k+1) // sorted by distance; one more while a sample is inserted
	for _, r := range m.rows {
		distance := 0.0
		for i, v := range r.x {
			distance += (v - x[i]) * (v - x[i])
		}
		at := len(found)
		for at > 0 && found[at-1].distance > distance {
			at--
		}
		if at < m.k {
			found = slices.Insert(found, at, neighbour{distance, r.species})
			found = found[:min(len(found), m.k)]
		}
	}
	return found
}
