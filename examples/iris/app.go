package main

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve"
)

// The split of the measurements: 20 flowers of each species are held out of training.
const (
	heldOutPerSpecies = 20
	splitSeed         = 1
	neighbours        = 5
)

// split gives the same rows to every replica, in every process.
func split() (training, heldOut []Sample, err error) {
	samples, err := LoadSamples()
	if err != nil {
		return nil, nil, err
	}
	training, heldOut = Split(samples, heldOutPerSpecies, splitSeed)
	return training, heldOut, nil
}

// Regression serves the logistic regression. It answers flowers that come at the same time in one batch.
type Regression struct {
	counter
	batcher *helve.Batcher[Flower, [NumSpecies]float64]
}

// NewRegression trains the model: the replica takes calls when it is done.
func NewRegression(ctx context.Context) (*Regression, error) {
	training, _, err := split()
	if err != nil {
		return nil, err
	}
	model, err := TrainLogistic(ctx, training)
	if err != nil {
		return nil, err
	}
	b, err := helve.NewBatcher(func(_ context.Context, flowers []Flower) ([][NumSpecies]float64, error) {
		return model.ProbabilitiesOf(flowers), nil
	}, helve.BatchOptions[Flower]{MaxSize: 32, Wait: new(time.Millisecond)})
	return &Regression{batcher: b}, err
}

// Probabilities of each species.
func (r *Regression) Probabilities(ctx context.Context, f Flower) ([NumSpecies]float64, error) {
	r.count()
	return r.batcher.Do(ctx, f)
}

// Nearest serves the nearest neighbours.
type Nearest struct {
	counter
	model *Neighbours
}

// NewNearest stores the training rows.
func NewNearest(context.Context) (*Nearest, error) {
	training, _, err := split()
	if err != nil {
		return nil, err
	}
	model, err := NewNeighbours(training, neighbours)
	return &Nearest{model: model}, err
}

// Probabilities of each species.
func (n *Nearest) Probabilities(_ context.Context, f Flower) ([NumSpecies]float64, error) {
	n.count()
	return n.model.Probabilities(f), nil
}

// counter is how many flowers a replica has seen since the last reset.
type counter struct{ seen atomic.Int64 }

func (c *counter) count() { c.seen.Add(1) }

// Reset starts the count again and returns the old one.
func (c *counter) Reset(context.Context, helve.None) (int, error) { return int(c.seen.Swap(0)), nil }

// Ballot is the input of the vote: the answers of both models, which are still to come when the call is made.
type Ballot struct {
	Regression [NumSpecies]float64
	Nearest    [NumSpecies]float64
}

// Verdict is the answer to a client.
type Verdict struct {
	Species     string  `json:"species"`
	Probability float64 `json:"probability"`
	Agreed      bool    `json:"agreed"` // both models would have said so
}

// Vote weighs the answers of the models.
type Vote struct{}

// Count gives the species with the highest mean probability.
func (*Vote) Count(_ context.Context, b Ballot) (Verdict, error) {
	var mean [NumSpecies]float64
	for i := range mean {
		mean[i] = (b.Regression[i] + b.Nearest[i]) / 2
	}
	best := Likeliest(mean)
	return Verdict{
		Species: best.String(), Probability: mean[best],
		Agreed: Likeliest(b.Regression) == best && Likeliest(b.Nearest) == best,
	}, nil
}

// Front is the deployment that clients reach.
type Front struct {
	regression, nearest           helve.Method[Flower, [NumSpecies]float64]
	resetRegression, resetNearest helve.Method[helve.None, int]
	count                         helve.Method[Ballot, Verdict]
}

// Classify asks both models at the same time. Their answers go to the vote without waiting here.
func (f *Front) Classify(ctx context.Context, flower Flower) (Verdict, error) {
	if err := flower.Validate(); err != nil {
		return Verdict{}, helve.Public(helve.InvalidArgument, err.Error())
	}
	return f.classify(ctx, flower).Result(ctx)
}

func (f *Front) classify(ctx context.Context, flower Flower) *helve.Response[Verdict] {
	return f.count.RemoteWith(ctx, Ballot{},
		helve.Fill(func(b *Ballot) *[NumSpecies]float64 { return &b.Regression }, f.regression.Remote(ctx, flower)),
		helve.Fill(func(b *Ballot) *[NumSpecies]float64 { return &b.Nearest }, f.nearest.Remote(ctx, flower)))
}

// Row is the verdict on one line of a file.
type Row struct {
	Verdict
	Line  int    `json:"line"`
	Truth string `json:"truth,omitempty"` // the species in the file
}

// Rows classifies a file of measurements, a line at a time, with or without the species at the end. Up to 64 lines are under
// way ahead of the reader, so the models see batches.
func (f *Front) Rows(ctx context.Context, csv string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		type pending struct {
			row  Row
			resp *helve.Response[Verdict]
		}
		var ahead []pending
		next := func() (more bool) {
			p := ahead[0]
			ahead = slices.Delete(ahead, 0, 1)
			var err error
			if p.row.Verdict, err = p.resp.Result(ctx); err != nil {
				yield(Row{}, fmt.Errorf("line %d: %w", p.row.Line, err))
				return false
			}
			return yield(p.row, nil)
		}
		line := 0
		for text := range strings.Lines(csv) {
			line++
			text = strings.TrimRight(text, "\r\n")
			if text == "" || line == 1 && strings.HasPrefix(text, "sepal_length") {
				continue
			}
			row, flower, err := parseRow(line, text)
			if err != nil {
				for len(ahead) > 0 && next() { // the rows before the mistake
				}
				yield(Row{}, helve.Public(helve.InvalidArgument, err.Error()))
				return
			}
			ahead = append(ahead, pending{row, f.classify(ctx, flower)})
			if len(ahead) == 64 && !next() {
				return
			}
		}
		for len(ahead) > 0 && next() {
		}
	}
}

func parseRow(line int, text string) (Row, Flower, error) {
	if strings.Count(text, ",") < NumFeatures {
		flower, err := ParseFlower(line, text)
		return Row{Line: line}, flower, err
	}
	s, err := ParseSample(line, text)
	return Row{Line: line, Truth: s.Species.String()}, s.Flower, err
}

// ResetOut has the counts before a reset.
type ResetOut struct {
	Replicas int `json:"replicas"`
	Flowers  int `json:"flowers"`
}

// Reset starts the counts of every replica of both models again.
func (f *Front) Reset(ctx context.Context, _ helve.None) (ResetOut, error) {
	var out ResetOut
	for _, b := range []*helve.BroadcastResponse[int]{
		f.resetRegression.Broadcast(ctx, helve.None{}), f.resetNearest.Broadcast(ctx, helve.None{}),
	} {
		entries, err := b.Results(ctx)
		if err != nil {
			return out, err
		}
		for _, e := range entries {
			out.Replicas++
			out.Flowers += e.Value
		}
	}
	return out, nil
}

// Build makes the application.
func Build() (*helve.App, error) {
	app := helve.NewApp("iris")
	regression := helve.Deploy(app, "Regression", NewRegression, helve.Options{MaxOngoingRequests: new(64)})
	nearest := helve.Deploy(app, "Nearest", NewNearest, helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(16)})
	vote := helve.Deploy(app, "Vote", func(context.Context) (*Vote, error) { return &Vote{}, nil }, helve.Options{MaxOngoingRequests: new(64)})
	f := Front{
		regression: helve.MethodOf(regression, (*Regression).Probabilities), resetRegression: helve.MethodOf(regression, (*Regression).Reset),
		nearest: helve.MethodOf(nearest, (*Nearest).Probabilities), resetNearest: helve.MethodOf(nearest, (*Nearest).Reset),
		count: helve.MethodOf(vote, (*Vote).Count),
	}
	front := helve.Deploy(app, "Front", func(context.Context) (*Front, error) { own := f; return &own, nil },
		helve.Options{MaxOngoingRequests: new(100), Uses: []helve.Target{regression, nearest, vote}})
	app.Ingress(helve.MethodOf(front, (*Front).Classify))
	return app, nil
}
