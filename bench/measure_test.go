package main

import (
	"errors"
	"testing"
)

// Rows that share numbers have them measured once.
func TestShared(t *testing.T) {
	t.Parallel()
	taken := 0
	h := settings{rounds: 3}.once(
		func() (sample, error) { taken++; return sample{v: 6, p99: 8, rate: 4, cpu: 2}, nil },
		func() (sample, error) { return sample{v: 2, p99: 4, rate: 1, cpu: 1}, nil })
	for i, pick := range []func(sample) sample{p50, p99, rate, cpu} {
		r, err := h.row(perSecond, pick)()
		if want := []float64{3, 2, 4, 2}[i]; r.ratio != want || err != nil {
			t.Errorf("row %d: ratio %v, %v, want %v", i, r.ratio, err, want)
		}
	}
	if taken != 3 {
		t.Errorf("measured %d times, want once a round", taken)
	}
	broken := errors.New("broken")
	h = settings{rounds: 1}.once(func() (sample, error) { return sample{}, broken }, nil)
	for range 2 {
		if _, err := h.row(perSecond, p50)(); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
	}
}

// The gap between a row's columns stays for numbers of every size.
func TestTexts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{latencyText(sample{v: 15_800, p99: 47_000}), "15.8 / 47 us"},
		{latencyText(sample{v: 71_420_000, p99: 1.2e9}), "71.42 / 1200.0 ms"},
		{perSecond(sample{v: 574.4}), "574/s"},
		{perSecond(sample{v: 3500}), "3.5k/s"},
		{perSecond(sample{v: 6.05e6}), "6.05M/s"},
	} {
		if c.got != c.want || len(c.got) > 17 {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
