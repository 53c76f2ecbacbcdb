package simulate

import (
	"math"
	"time"

	"github.com/helve-serve/helve/internal/autoscale"
)

// Ours is the autoscaler of package autoscale.
func Ours(c autoscale.Config) Scaler { return &ours{config: c} }

type ours struct {
	config autoscale.Config
	state  autoscale.State
}

func (o *ours) Step(now time.Time, l autoscale.Load, f autoscale.Facts) (int, string) {
	o.state.Observe(now, l)
	if d := autoscale.Decide(now, o.config, &o.state, f); d.Replicas != f.Target {
		return d.Replicas, d.Reason()
	}
	return f.Target, ""
}

// Reference is the algorithm of the reference as it is published: the load is averaged over the look-back period and comes each 10 s, the decision is made each
// 100 ms, and delays are counted in decisions.
func Reference(c autoscale.Config) Scaler { return &reference{config: c} }

// Defaults and periods of the reference.
const (
	pushInterval          = 10 * time.Second
	referenceUpDelay      = 30 * time.Second
	referenceDownDelay    = 600 * time.Second
	referenceControlPause = Tick
)

type reference struct {
	config  autoscale.Config
	loads   []float64 // each tick of the look-back period
	next    int
	pushed  time.Time
	total   float64 // as it was pushed last
	counter int
}

func (r *reference) Step(now time.Time, l autoscale.Load, f autoscale.Facts) (int, string) {
	lookBack := autoscale.DefaultLookBack
	if r.config.LookBack != nil {
		lookBack = *r.config.LookBack
	}
	if size := int(lookBack / Tick); len(r.loads) < size {
		r.loads = append(r.loads, float64(l.Queued+l.Running))
	} else {
		r.loads[r.next%size] = float64(l.Queued + l.Running)
		r.next++
	}
	if r.pushed.IsZero() || now.Sub(r.pushed) >= pushInterval || f.Ready+f.Starting == 0 && l.Queued > 0 {
		r.pushed, r.total = now, 0
		for _, x := range r.loads {
			r.total += x / float64(len(r.loads))
		}
	}
	return r.decide(f), "as the reference"
}

func (r *reference) decide(f autoscale.Facts) int {
	c := &r.config
	if f.Ready == 0 {
		if r.total > 0 {
			return min(max(int(math.Ceil(c.UpFactor)), f.Target, f.Least), f.Most)
		}
		return f.Target
	}
	running := float64(f.Ready)
	desired := r.total / c.Target
	factor := c.UpFactor
	if desired < running {
		factor = c.DownFactor
	}
	scaled := int(math.Ceil(running + factor*(desired-running)))
	if int(math.Ceil(desired)) < f.Ready && scaled == f.Ready {
		scaled--
	}
	bounded := min(max(scaled, f.Least), f.Most)
	ticks := func(d *time.Duration, otherwise time.Duration) int {
		if d != nil {
			otherwise = *d
		}
		return int(otherwise / referenceControlPause)
	}
	switch {
	case bounded > f.Target:
		if r.counter = max(r.counter, 0) + 1; r.counter > ticks(c.UpscaleDelay, referenceUpDelay) {
			r.counter = 0
			return bounded
		}
	case bounded < f.Target:
		delay := ticks(c.DownscaleDelay, referenceDownDelay)
		if f.Target == 1 {
			if c.DownscaleToZeroDelay != nil {
				delay = ticks(c.DownscaleToZeroDelay, 0)
			}
		} else {
			bounded = max(1, bounded)
		}
		if r.counter = min(r.counter, 0) - 1; r.counter < -delay {
			r.counter = 0
			return bounded
		}
	default:
		r.counter = 0
	}
	return f.Target
}
