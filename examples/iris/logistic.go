package main

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Logistic is multinomial logistic regression: the probability of a species is the softmax of one linear function of the
// features per species. It does not change after training, so its methods may be called from any goroutine.
//
// The formulas are those of C. M. Bishop, "Pattern Recognition and Machine Learning" (2006), section 4.3.4.
type Logistic struct {
	scale   scale
	weights weights
}

// weights has a row per species: one weight for each standardised feature, and last the bias.
type weights [NumSpecies][NumFeatures + 1]float64

// How a model is trained.
const (
	// penalty is λ, the strength of the ridge penalty λ/2 Σw², which leaves out the biases. Without one the weights would
	// grow for ever: setosa can be told from the others without a mistake.
	penalty = 0.01

	// stepSize is 1/L, where L bounds the curvature of the loss: with it every step of gradient descent lowers the loss.
	// For softmax, L is half the largest eigenvalue of Σxxᵀ/n (D. Böhning, "Multinomial logistic regression algorithm",
	// Annals of the Institute of Statistical Mathematics 44, 1992) and λ more. That eigenvalue is at most the trace,
	// which is 1 for each standardised feature and 1 for the constant that the bias is multiplied by.
	stepSize = 1 / ((NumFeatures+1)/2.0 + penalty)

	// tolerance is the largest component that the gradient may have at the end.
	tolerance = 1e-6

	maxSteps = 100_000
)

// TrainLogistic trains on the samples by gradient descent from weights of 0, so that the same samples in the same order
// make the same model. It looks at ctx before every step and returns its cause once it has ended. It fails if the descent
// does not converge, as happens when there is no sample of some species.
func TrainLogistic(ctx context.Context, training []Sample) (*Logistic, error) {
	if len(training) == 0 {
		return nil, errors.New("logistic regression needs samples to train on")
	}
	m := &Logistic{scale: newScale(training)}
	rows := standardise(&m.scale, training)
	for range maxSteps {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("training logistic regression: %w", context.Cause(ctx))
		}
		if m.weights.step(rows) <= tolerance {
			return m, nil
		}
	}
	return nil, fmt.Errorf("logistic regression has not converged after %d steps", maxSteps)
}

// step goes one step down the gradient, and returns the largest component that the gradient had.
func (w *weights) step(rows []row) (steepest float64) {
	_, gradient := w.loss(rows)
	for s := range gradient {
		for i, g := range gradient[s] {
			w[s][i] -= stepSize * g
			steepest = max(steepest, math.Abs(g))
		}
	}
	return steepest
}

// Probabilities is how likely f is of each species. The sum is 1.
func (m *Logistic) Probabilities(f Flower) [NumSpecies]float64 {
	return softmax(m.weights.scores(m.scale.apply(f)))
}

// ProbabilitiesOf is [Logistic.Probabilities] of each flower, in their order.
func (m *Logistic) ProbabilitiesOf(flowers []Flower) [][NumSpecies]float64 {
	all := make([][NumSpecies]float64, len(flowers))
	for i, f := range flowers {
		all[i] = m.Probabilities(f)
	}
	return all
}

// row is a sample with its features standardised.
type row struct {
	x       [NumFeatures]float64
	species Species
}

func standardise(s *scale, samples []Sample) []row {
	rows := make([]row, len(samples))
	for i, sample := range samples {
		rows[i] = row{s.apply(sample.Flower), sample.Species}
	}
	return rows
}

// scores are the linear functions of the features: a = w·x + b (4.105).
func (w *weights) scores(x [NumFeatures]float64) [NumSpecies]float64 {
	var a [NumSpecies]float64
	for s := range w {
		a[s] = w[s][NumFeatures]
		for i, v := range x {
			a[s] += w[s][i] * v
		}
	}
	return a
}

// softmax is exp(aₛ) / Σexp(a) (4.104). Subtracting the largest score changes nothing but keeps exp from overflowing.
func softmax(a [NumSpecies]float64) [NumSpecies]float64 {
	largest, sum := max(a[0], a[1], a[2]), 0.0
	for s := range a {
		a[s] = math.Exp(a[s] - largest)
		sum += a[s]
	}
	for s := range a {
		a[s] /= sum
	}
	return a
}

// loss is the mean over the rows of the cross-entropy -ln p(species) (4.108), plus the penalty, and its gradient: the
// mean of (pₛ - [s is the species])·x (4.109), plus λw.
func (w *weights) loss(rows []row) (loss float64, gradient weights) {
	n := float64(len(rows))
	for _, r := range rows {
		p := softmax(w.scores(r.x))
		loss -= math.Log(p[r.species]) / n
		p[r.species]--
		for s, excess := range p {
			for i, v := range r.x {
				gradient[s][i] += excess * v / n
			}
			gradient[s][NumFeatures] += excess / n
		}
	}
	for s := range w {
		for i, v := range w[s][:NumFeatures] {
			loss += penalty / 2 * v * v
			gradient[s][i] += penalty * v
		}
	}
	return loss, gradient
}
