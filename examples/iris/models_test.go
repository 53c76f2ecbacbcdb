package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const (
	seed       = 1
	perSpecies = 20 // held out
	k          = 5
)

func table(t *testing.T) []Sample {
	t.Helper()
	samples, err := LoadSamples()
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

func trainLogistic(t *testing.T, training []Sample) *Logistic {
	t.Helper()
	m, err := TrainLogistic(t.Context(), training)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newNeighbours(t *testing.T, training []Sample, k int) *Neighbours {
	t.Helper()
	m, err := NewNeighbours(training, k)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// correct counts the samples whose species is the likeliest.
func correct(samples []Sample, probabilities func(Flower) [NumSpecies]float64) int {
	n := 0
	for _, sample := range samples {
		if Likeliest(probabilities(sample.Flower)) == sample.Species {
			n++
		}
	}
	return n
}

// anyFlowers draws flowers over the whole range that Validate lets through, most of them far from every iris.
func anyFlowers(n int) []Flower {
	random := rand.New(rand.NewPCG(2, 0))
	flowers := []Flower{{100, 100, 100, 100}, {1e-300, 1e-300, 1e-300, 1e-300}, {100, 1e-300, 100, 1e-300}}
	for range n {
		length := func() float64 { return 100*math.Pow(random.Float64(), 4) + 1e-9 }
		flowers = append(flowers, Flower{length(), length(), length(), length()})
	}
	return flowers
}

func TestTableIsFishers(t *testing.T) {
	t.Parallel()
	samples := table(t)
	if len(samples) != 150 {
		t.Fatalf("%d samples, want 150", len(samples))
	}
	// The two rows in which the copy at UCI differs from the paper.
	if got, want := samples[34], (Sample{Flower{4.9, 3.1, 1.5, 0.2}, Setosa}); got != want {
		t.Errorf("row 35 is %v, want %v", got, want)
	}
	if got, want := samples[37], (Sample{Flower{4.9, 3.6, 1.4, 0.1}, Setosa}); got != want {
		t.Errorf("row 38 is %v, want %v", got, want)
	}
	// The means in thousandths of a centimetre: of setosa and versicolor as in table II of the paper, of virginica as in
	// R's copy of the data. There are 50 flowers of each species.
	want := [NumSpecies][NumFeatures]int{{5006, 3428, 1462, 246}, {5936, 2770, 4260, 1326}, {6588, 2974, 5552, 2026}}
	var sums [NumSpecies][NumFeatures]float64
	for _, sample := range samples {
		for i, v := range sample.features() {
			sums[sample.Species][i] += v
		}
	}
	for s := range sums {
		for i, sum := range sums[s] {
			if got := int(math.Round(sum / 50 * 1000)); got != want[s][i] {
				t.Errorf("mean of feature %d of %v is %d, want %d", i, Species(s), got, want[s][i])
			}
		}
	}
}

func TestSplitIsStratifiedAndRepeatable(t *testing.T) {
	t.Parallel()
	samples := table(t)
	training, heldOut := Split(samples, perSpecies, seed)
	if !slices.Equal(samples, table(t)) {
		t.Error("the split changed its input")
	}
	var count [NumSpecies]int
	for _, sample := range heldOut {
		count[sample.Species]++
	}
	if want := [NumSpecies]int{perSpecies, perSpecies, perSpecies}; count != want {
		t.Errorf("held out %v, want %v", count, want)
	}
	left := map[Sample]int{} // a map, since two flowers have the same measurements
	for _, sample := range samples {
		left[sample]++
	}
	for _, sample := range slices.Concat(training, heldOut) {
		left[sample]--
	}
	for sample, n := range left {
		if n != 0 {
			t.Errorf("%v is in the split %d times too few", sample, n)
		}
	}
	training2, heldOut2 := Split(samples, perSpecies, seed)
	if !slices.Equal(training, training2) || !slices.Equal(heldOut, heldOut2) {
		t.Error("the same seed made another split")
	}
	if _, other := Split(samples, perSpecies, seed+1); slices.Equal(heldOut, other) {
		t.Error("another seed made the same split")
	}
	if training, heldOut := Split(samples, 51, seed); len(training) != 0 || len(heldOut) != 150 {
		t.Errorf("51 of 50 held out: %d left for training, %d held out", len(training), len(heldOut))
	}
}

func TestHeldOutAccuracy(t *testing.T) {
	t.Parallel()
	training, heldOut := Split(table(t), perSpecies, seed)
	for _, c := range []struct {
		name          string
		probabilities func(Flower) [NumSpecies]float64
		want          int
	}{
		{"logistic", trainLogistic(t, training).Probabilities, 59},
		{"neighbours", newNeighbours(t, training, k).Probabilities, 59},
	} {
		got := correct(heldOut, c.probabilities)
		if got != c.want {
			t.Errorf("%s: %d of %d correct, want %d", c.name, got, len(heldOut), c.want)
		}
		if accuracy := float64(got) / float64(len(heldOut)); accuracy < 0.93 {
			t.Errorf("%s: accuracy %.3f, want at least 0.93", c.name, accuracy)
		}
	}
}

// The numbers are the answers of scikit-learn 1.9.1 after training on the whole table, with StandardScaler before
// LogisticRegression(C=1/(0.01*150), tol=1e-12) and KNeighborsClassifier(5).
func TestModelsAgreeWithScikitLearn(t *testing.T) {
	t.Parallel()
	samples := table(t)
	logistic, neighbours := trainLogistic(t, samples), newNeighbours(t, samples, k)
	for _, c := range []struct {
		flower               Flower
		logistic, neighbours [NumSpecies]float64
	}{
		{Flower{5.1, 3.5, 1.4, 0.2}, [...]float64{0.97873468, 0.02126475, 0.00000057}, [...]float64{1, 0, 0}},
		{Flower{5.9, 3.0, 5.1, 1.8}, [...]float64{0.00527941, 0.32240264, 0.67231796}, [...]float64{0, 0.4, 0.6}},
		{Flower{7.0, 3.0, 3.0, 1.0}, [...]float64{0.03158886, 0.96222239, 0.00618875}, [...]float64{0, 1, 0}},
	} {
		got := logistic.Probabilities(c.flower)
		for s := range got {
			if math.Abs(got[s]-c.logistic[s]) > 1e-5 {
				t.Errorf("logistic of %v: %.8f, want %.8f", c.flower, got, c.logistic)
				break
			}
		}
		if got := neighbours.Probabilities(c.flower); got != c.neighbours {
			t.Errorf("neighbours of %v: %v, want %v", c.flower, got, c.neighbours)
		}
	}
	if got := correct(samples, logistic.Probabilities); got != 144 { // score 0.96
		t.Errorf("logistic: %d of its training samples correct, want 144", got)
	}
	if got := correct(samples, neighbours.Probabilities); got != 143 { // score 0.9533
		t.Errorf("neighbours: %d of their training samples correct, want 143", got)
	}
}

func TestGradientIsTheSlopeOfTheLoss(t *testing.T) {
	t.Parallel()
	samples := table(t)
	scale := newScale(samples)
	rows := standardise(&scale, samples)
	random := rand.New(rand.NewPCG(3, 0))
	var w weights
	for s := range w {
		for i := range w[s] {
			w[s][i] = random.NormFloat64()
		}
	}
	_, gradient := w.loss(rows)
	const h = 1e-5 // the central difference is off by O(h²), and by rounding over h
	for s := range w {
		for i := range w[s] {
			up, down := w, w
			up[s][i] += h
			down[s][i] -= h
			above, _ := up.loss(rows)
			below, _ := down.loss(rows)
			if slope := (above - below) / (2 * h); math.Abs(slope-gradient[s][i]) > 1e-8 {
				t.Errorf("weight %d of %v: gradient %.10f, slope %.10f", i, Species(s), gradient[s][i], slope)
			}
		}
	}
}

func TestEveryStepLowersTheLoss(t *testing.T) {
	t.Parallel()
	samples := table(t)
	scale := newScale(samples)
	rows := standardise(&scale, samples)
	var w weights
	before, _ := w.loss(rows)
	if math.Abs(before-math.Log(3)) > 1e-12 {
		t.Errorf("loss of weights 0 is %v, want ln 3", before)
	}
	for step := range 500 {
		w.step(rows)
		after, _ := w.loss(rows)
		if after >= before {
			t.Fatalf("step %d: the loss went from %v to %v", step, before, after)
		}
		before = after
	}
}

func TestProbabilitiesSumToOne(t *testing.T) {
	t.Parallel()
	training, _ := Split(table(t), perSpecies, seed)
	logistic, neighbours := trainLogistic(t, training), newNeighbours(t, training, k)
	for _, f := range anyFlowers(1000) {
		if err := f.Validate(); err != nil {
			t.Fatal(err)
		}
		for name, p := range map[string][NumSpecies]float64{
			"logistic": logistic.Probabilities(f), "neighbours": neighbours.Probabilities(f),
		} {
			sum := 0.0
			for _, v := range p {
				if !(v >= 0 && v <= 1) {
					t.Errorf("%s of %v: %v", name, f, p)
				}
				sum += v
			}
			if !(math.Abs(sum-1) < 1e-12) {
				t.Errorf("%s of %v: %v has sum %v", name, f, p, sum)
			}
		}
	}
}

func TestSoftmaxDoesNotOverflow(t *testing.T) {
	t.Parallel()
	if got, want := softmax([...]float64{1000, -1000, 1000}), [...]float64{0.5, 0, 0.5}; got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestBatchIsEachOne(t *testing.T) {
	t.Parallel()
	m := trainLogistic(t, table(t))
	flowers := anyFlowers(20)
	batch := m.ProbabilitiesOf(flowers)
	if len(batch) != len(flowers) {
		t.Fatalf("%d answers to %d flowers", len(batch), len(flowers))
	}
	for i, f := range flowers {
		if want := m.Probabilities(f); batch[i] != want {
			t.Errorf("flower %d: %v in the batch, %v alone", i, batch[i], want)
		}
	}
	if got := m.ProbabilitiesOf(nil); len(got) != 0 {
		t.Errorf("no flowers have probabilities %v", got)
	}
}

func TestTrainingIsRepeatable(t *testing.T) {
	t.Parallel()
	training, _ := Split(table(t), perSpecies, seed)
	if a, b := trainLogistic(t, training), trainLogistic(t, training); *a != *b {
		t.Errorf("trained twice: %v and %v", *a, *b)
	}
}

func TestNeighboursIgnoreTheOrderOfTheSamples(t *testing.T) {
	t.Parallel()
	// On a coarse grid many samples of different species are equally far, or at the same place. 0.1 makes sums that
	// are rounded, and so depend on the order.
	random := rand.New(rand.NewPCG(4, 0))
	length := func() float64 { return 0.1 * float64(1+random.IntN(4)) }
	var grid []Sample
	var flowers []Flower
	for range 60 {
		grid = append(grid, Sample{Flower{length(), length(), length(), length()}, Species(random.IntN(NumSpecies))})
		flowers = append(flowers, Flower{length(), length(), length(), length()})
	}
	training, heldOut := Split(table(t), perSpecies, seed)
	for _, sample := range heldOut {
		flowers = append(flowers, sample.Flower)
	}
	for _, samples := range [][]Sample{grid, training} {
		before := slices.Clone(samples)
		for _, k := range []int{1, 2, 5, len(samples)} {
			want := newNeighbours(t, samples, k)
			shuffled := slices.Clone(samples)
			for range 5 {
				random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
				got := newNeighbours(t, shuffled, k)
				if got.scale != want.scale {
					t.Errorf("the scale %v became %v", want.scale, got.scale)
				}
				for _, f := range flowers {
					if a, b := want.Probabilities(f), got.Probabilities(f); a != b {
						t.Errorf("k=%d, %v: %v became %v", k, f, a, b)
					}
				}
			}
		}
		if !slices.Equal(samples, before) {
			t.Error("the samples were changed")
		}
	}
}

func TestNeighboursOfFewSamples(t *testing.T) {
	t.Parallel()
	// The first three features are always the same, and must not be divided by a deviation of 0.
	samples := []Sample{
		{Flower{1, 1, 1, 1}, Setosa}, {Flower{1, 1, 1, 2}, Setosa}, {Flower{1, 1, 1, 4}, Versicolor},
		{Flower{1, 1, 1, 5}, Virginica},
	}
	for _, c := range []struct {
		k    int
		at   float64
		want [NumSpecies]float64
	}{
		{1, 1.9, [...]float64{1, 0, 0}},
		{1, 3, [...]float64{1, 0, 0}}, // equally far from 2 and 4: the smaller
		{1, 50, [...]float64{0, 0, 1}},
		{2, 50, [...]float64{0, 0.5, 0.5}},
		{2, 3.5, [...]float64{0.5, 0.5, 0}}, // 4, then 2 and 5 equally far
		{4, 3, [...]float64{0.5, 0.25, 0.25}},
	} {
		m := newNeighbours(t, samples, c.k)
		if got := m.Probabilities(Flower{1, 1, 1, c.at}); got != c.want {
			t.Errorf("k=%d at %v: %v, want %v", c.k, c.at, got, c.want)
		}
	}
	for _, k := range []int{-1, 0, 5} {
		if _, err := NewNeighbours(samples, k); err == nil {
			t.Errorf("%d neighbours of 4 samples were accepted", k)
		}
	}
}

// endsAt is a fake context that ends after it was asked so many times.
type endsAt struct {
	context.Context
	asked, limit int
}

func (c *endsAt) Err() error {
	if c.asked++; c.asked > c.limit {
		return context.Canceled
	}
	return nil
}

func TestTrainingStopsWithTheContext(t *testing.T) {
	t.Parallel()
	samples := table(t)
	reason := errors.New("the replica is stopping")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if m, err := TrainLogistic(ctx, samples); !errors.Is(err, reason) || m != nil {
		t.Errorf("ended before: %v, %v", m, err)
	}
	during := &endsAt{Context: t.Context(), limit: 10}
	if m, err := TrainLogistic(during, samples); !errors.Is(err, context.Canceled) || m != nil {
		t.Errorf("ended after 10 steps: %v, %v", m, err)
	}
}

func TestTrainingThatCannotSucceed(t *testing.T) {
	t.Parallel()
	if _, err := TrainLogistic(t.Context(), nil); err == nil {
		t.Error("trained on nothing")
	}
	if _, err := TrainLogistic(t.Context(), table(t)[:1]); err == nil || !strings.Contains(err.Error(), "converged") {
		t.Errorf("trained on one species: %v", err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	flower := Flower{5.1, 3.5, 1.4, 0.2}
	for _, row := range []string{"5.1,3.5,1.4,0.2", " 5.1, 3.5,1.40 ,2e-1\r\n"} {
		if got, err := ParseFlower(1, row); err != nil || got != flower {
			t.Errorf("%q: %v, %v", row, got, err)
		}
	}
	want := []Sample{{flower, Virginica}}
	if got, err := ParseSamples(header + "\r\n5.1,3.5,1.4,0.2, virginica\r\n"); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

func TestMistakesInCSV(t *testing.T) {
	t.Parallel()
	const good = header + "\n5.1,3.5,1.4,0.2,setosa\n"
	for _, c := range []struct{ text, want string }{
		{"", `line 1: the header is "", want "` + header + `"`},
		{"5.1,3.5,1.4,0.2,setosa\n", `line 1: the header is "5.1,3.5,1.4,0.2,setosa", want "` + header + `"`},
		{good + "4.9,x,1.4,0.2,setosa\n", `line 3: sepal_width: "x" is not a number`},
		{good + "\n" + good, `line 3: sepal_length: missing: number of fields is 0, want 5`},
		{good + "4.9,3.0,1.4,0.2", `line 3: species: missing: number of fields is 4, want 5`},
		{good + "4.9,3.0,1.4,0.2,setosa,1", `line 3: species: more follows: number of fields is 6, want 5`},
		{good + "4.9,3.0,1.4,0.2,rose", `line 3: species: "rose" is not a species: want setosa, versicolor or virginica`},
		{good + "4.9,3.0,1.4,0.2,Setosa", `line 3: species: "Setosa" is not a species: want setosa, versicolor or virginica`},
		{good + "4.9,3.0,NaN,0.2,setosa", `line 3: petal_length: NaN is not a length: want more than 0 and at most 100 cm`},
	} {
		if got, err := ParseSamples(c.text); err == nil || err.Error() != c.want || got != nil {
			t.Errorf("%q: %v, %v, want %s", c.text, got, err, c.want)
		}
	}
	for _, c := range []struct {
		row  string
		want FieldError
	}{
		{"", FieldError{7, "sepal_length", "missing: number of fields is 0, want 4"}},
		{"1,2,3", FieldError{7, "petal_width", "missing: number of fields is 3, want 4"}},
		{"1,2,3,4,setosa", FieldError{7, "petal_width", "more follows: number of fields is 5, want 4"}},
		{"1,2,3,", FieldError{7, "petal_width", `"" is not a number`}},
		{"1,2,1e999,4", FieldError{7, "petal_length", `"1e999" is not a number`}},
		{"0,2,3,4", FieldError{7, "sepal_length", "0 is not a length: want more than 0 and at most 100 cm"}},
		{"1,-2,3,4", FieldError{7, "sepal_width", "-2 is not a length: want more than 0 and at most 100 cm"}},
		{"1,2,100.5,4", FieldError{7, "petal_length", "100.5 is not a length: want more than 0 and at most 100 cm"}},
		{"1,2,3,Inf", FieldError{7, "petal_width", "+Inf is not a length: want more than 0 and at most 100 cm"}},
	} {
		_, err := ParseFlower(7, c.row)
		if got, ok := errors.AsType[*FieldError](err); !ok || *got != c.want {
			t.Errorf("%q: %v, want %v", c.row, err, &c.want)
		}
	}
	// A flower that came as JSON has no line.
	want := "petal_width: 0 is not a length: want more than 0 and at most 100 cm"
	if err := (Flower{5.1, 3.5, 1.4, 0}).Validate(); err == nil || err.Error() != want {
		t.Errorf("no petal width: %v, want %s", err, want)
	}
}
