package main

import (
	_ "embed"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// The 150 measurements of R. A. Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7
// (1936), table I: 50 flowers of each species, in the public domain. The copy at the UCI Machine Learning Repository
// differs from the paper in rows 35 and 38; this one does not.
//
//go:embed iris.csv
var irisCSV string

// header names the fields of a line, in their order. A line without the species has the first four.
const header = "sepal_length,sepal_width,petal_length,petal_width,species"

// NumFeatures is how many measurements a flower has.
const NumFeatures = 4

// Flower has the measurements of one flower, in centimetres.
type Flower struct {
	SepalLength float64 `json:"sepal_length"`
	SepalWidth  float64 `json:"sepal_width"`
	PetalLength float64 `json:"petal_length"`
	PetalWidth  float64 `json:"petal_width"`
}

// features are the measurements in the order of the header.
func (f Flower) features() [NumFeatures]float64 {
	return [...]float64{f.SepalLength, f.SepalWidth, f.PetalLength, f.PetalWidth}
}

// Validate returns a *FieldError for the first measurement that no iris can have. It finds a field that was left out
// of a JSON object, which reads as 0, and keeps out values that the models' arithmetic would turn into NaN.
func (f Flower) Validate() error {
	const longest = 100 // centimetres; the longest in the table is 7.9
	for i, v := range f.features() {
		if !(v > 0 && v <= longest) { // so that NaN fails too
			return fieldError(i, "%v is not a length: want more than 0 and at most %d cm", v, longest)
		}
	}
	return nil
}

// Species is a class of flower. The models number their probabilities by it.
type Species int

// The species, in the order of the table.
const (
	Setosa Species = iota
	Versicolor
	Virginica

	NumSpecies = 3
)

// String is the name that the table has.
func (s Species) String() string {
	switch s {
	case Setosa:
		return "setosa"
	case Versicolor:
		return "versicolor"
	case Virginica:
		return "virginica"
	}
	return fmt.Sprintf("Species(%d)", int(s))
}

// ParseSpecies is the opposite of [Species.String].
func ParseSpecies(name string) (Species, error) {
	for s := range Species(NumSpecies) {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%q is not a species: want %v, %v or %v", name, Setosa, Versicolor, Virginica)
}

// Likeliest is the species with the highest probability, the first of several.
func Likeliest(probabilities [NumSpecies]float64) Species {
	best := Setosa
	for s, p := range probabilities {
		if p > probabilities[best] {
			best = Species(s)
		}
	}
	return best
}

// Sample is a flower of known species.
type Sample struct {
	Flower
	Species Species
}

// FieldError is a mistake in one field, with a text for the author of the file.
type FieldError struct {
	Line    int    // counted from 1; 0 if there are no lines
	Field   string // as in the header
	Problem string
}

func (e *FieldError) Error() string {
	if e.Line == 0 {
		return e.Field + ": " + e.Problem
	}
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Field, e.Problem)
}

func fieldError(field int, format string, args ...any) *FieldError {
	return &FieldError{Field: strings.Split(header, ",")[field], Problem: fmt.Sprintf(format, args...)}
}

// LoadSamples parses the table.
func LoadSamples() ([]Sample, error) { return ParseSamples(irisCSV) }

// ParseSamples parses a CSV text: the header, then one sample a line.
func ParseSamples(text string) ([]Sample, error) {
	first, rest, _ := strings.Cut(text, "\n")
	if got := strings.TrimSpace(first); got != header {
		return nil, fmt.Errorf("line 1: the header is %q, want %q", got, header)
	}
	var samples []Sample
	line := 1
	for row := range strings.Lines(rest) {
		line++
		sample, err := ParseSample(line, row)
		if err != nil {
			return nil, err
		}
		samples = append(samples, sample)
	}
	return samples, nil
}

// ParseFlower parses a CSV line of four measurements. Its error is a *FieldError with the line's number.
func ParseFlower(line int, row string) (Flower, error) {
	sample, err := parse(row, NumFeatures)
	if err != nil {
		err.Line = line
		return Flower{}, err
	}
	return sample.Flower, nil
}

// ParseSample parses a CSV line of four measurements and a species. Its error is a *FieldError with the line's number.
func ParseSample(line int, row string) (Sample, error) {
	sample, err := parse(row, NumFeatures+1)
	if err != nil {
		err.Line = line
		return Sample{}, err
	}
	return sample, nil
}

// parse parses a line of so many fields. A field of such a line needs no quotes, so there are none to undo.
func parse(row string, fields int) (Sample, *FieldError) {
	values := strings.Split(row, ",")
	if strings.TrimSpace(row) == "" {
		values = nil // Split finds one empty field
	}
	if len(values) < fields {
		return Sample{}, fieldError(len(values), "missing: number of fields is %d, want %d", len(values), fields)
	}
	if len(values) > fields {
		return Sample{}, fieldError(fields-1, "more follows: number of fields is %d, want %d", len(values), fields)
	}
	var measured [NumFeatures]float64
	for i := range measured {
		value := strings.TrimSpace(values[i])
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return Sample{}, fieldError(i, "%q is not a number", value)
		}
		measured[i] = v
	}
	flower := Flower{measured[0], measured[1], measured[2], measured[3]}
	if err := flower.Validate(); err != nil {
		return Sample{}, err.(*FieldError)
	}
	if fields == NumFeatures {
		return Sample{Flower: flower}, nil
	}
	species, err := ParseSpecies(strings.TrimSpace(values[NumFeatures]))
	if err != nil {
		return Sample{}, fieldError(NumFeatures, "%v", err)
	}
	return Sample{flower, species}, nil
}

// Split holds out perSpecies samples of every species, drawn with the seed, and leaves the others for training. The same
// samples and seed make the same split; samples is not changed.
func Split(samples []Sample, perSpecies int, seed uint64) (training, heldOut []Sample) {
	random := rand.New(rand.NewPCG(seed, 0))
	for species := range Species(NumSpecies) {
		var stratum []Sample
		for _, sample := range samples {
			if sample.Species == species {
				stratum = append(stratum, sample)
			}
		}
		random.Shuffle(len(stratum), func(i, j int) { stratum[i], stratum[j] = stratum[j], stratum[i] })
		n := min(perSpecies, len(stratum))
		heldOut = append(heldOut, stratum[:n]...)
		training = append(training, stratum[n:]...)
	}
	return training, heldOut
}

// scale standardises features: over the samples it was made of, each has mean 0 and variance 1. Both models need it, or
// the feature with the largest numbers would weigh most.
type scale struct{ mean, deviation [NumFeatures]float64 }

func newScale(samples []Sample) scale {
	var s scale
	n := float64(len(samples))
	for _, sample := range samples {
		for i, v := range sample.features() {
			s.mean[i] += v / n
		}
	}
	var variance [NumFeatures]float64
	for _, sample := range samples {
		for i, v := range sample.features() {
			variance[i] += (v - s.mean[i]) * (v - s.mean[i]) / n
		}
	}
	for i, v := range variance {
		s.deviation[i] = math.Sqrt(v)
		if v == 0 {
			s.deviation[i] = 1 // a feature that is always the same stays 0
		}
	}
	return s
}

// apply returns the standardised features of f.
func (s *scale) apply(f Flower) [NumFeatures]float64 {
	x := f.features()
	for i := range x {
		x[i] = (x[i] - s.mean[i]) / s.deviation[i]
	}
	return x
}
