package policy

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/autoscale"
)

const (
	// samplesMax is the number of samples that are kept of one name of one replica, and namesMax the number of names of one replica: others are left out.
	samplesMax = 64
	namesMax   = 100
	// numberMax is the largest number, above 0 and below: a sum, or a mean, of such numbers is finite. A larger one counts as this one.
	numberMax = 1e100
)

// Metrics has the numbers that the replicas of a deployment report for autoscaling policies. The zero value is empty. Its methods may be called from any goroutine.
type Metrics struct {
	mu       sync.Mutex
	replicas map[string]map[string][]Sample // by replica and name
}

// Put notes the numbers of a replica.
func (m *Metrics) Put(replica string, now time.Time, numbers map[string]float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.replicas == nil {
		m.replicas = map[string]map[string][]Sample{}
	}
	names := m.replicas[replica]
	if names == nil {
		names = map[string][]Sample{}
		m.replicas[replica] = names
	}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		samples := names[name]
		if samples == nil && len(names) == namesMax {
			continue
		}
		if len(samples) == samplesMax {
			samples = slices.Delete(samples, 0, 1)
		}
		names[name] = append(samples, Sample{float64(At(now)), min(max(numbers[name], -numberMax), numberMax)})
	}
}

// Forget drops the numbers of a replica that is gone.
func (m *Metrics) Forget(replica string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.replicas, replica)
}

// View gives the numbers of the replicas that run, by name and replica: over the period as the aggregation says, and their samples. A number
// holds until the next one of its replica: the mean is weighted by time. For example, 4 for 10 s and then 1 for 20 s have the mean 2.
func (m *Metrics) View(now time.Time, period time.Duration, by autoscale.Aggregation, running []string) (aggregated map[string]map[string]float64, raw map[string]map[string][]Sample) {
	m.mu.Lock()
	defer m.mu.Unlock()
	aggregated, raw = map[string]map[string]float64{}, map[string]map[string][]Sample{}
	to := float64(At(now))
	from := to - period.Seconds()
	for _, id := range running {
		for name, samples := range m.replicas[id] {
			in := within(samples, from)
			if len(in) == 0 {
				continue
			}
			if aggregated[name] == nil {
				aggregated[name], raw[name] = map[string]float64{}, map[string][]Sample{}
			}
			aggregated[name][id], raw[name][id] = aggregate(in, from, to, by), in
		}
	}
	return aggregated, raw
}

// within are the samples from a moment on, with the one that held at that moment.
func within(samples []Sample, from float64) []Sample {
	first := 0
	for first+1 < len(samples) && samples[first+1][0] <= from {
		first++
	}
	return slices.Clone(samples[first:])
}

func aggregate(samples []Sample, from, to float64, by autoscale.Aggregation) float64 {
	least, most, area, time := samples[0][1], samples[0][1], 0.0, 0.0
	for i, s := range samples {
		least, most = min(least, s[1]), max(most, s[1])
		end := to
		if i+1 < len(samples) {
			end = samples[i+1][0]
		}
		if dt := end - max(s[0], from); dt > 0 {
			area += dt * s[1]
			time += dt
		}
	}
	switch {
	case by == autoscale.Max:
		return most
	case by == autoscale.Min:
		return least
	case time == 0:
		return samples[len(samples)-1][1]
	}
	return area / time
}
