// Package autoscale decides how many replicas a deployment should have: from its configuration, the load that was seen, and the time. It is pure: it has no clock,
// no goroutine and no I/O, and the same inputs give the same answer.
//
// The owner of a deployment keeps one [State]. It tells the state each [Load] that it samples (State.Observe), and asks [Decide] after that, and again at
// Decision.Next. For example, with a target of 2 calls a replica, one replica, and a load that steps to 14 calls:
//
//	s.Observe(t, autoscale.Load{Queued: 9, Running: 5})
//	d := autoscale.Decide(t, config, &s, autoscale.Facts{Target: 1, Ready: 1, Least: 1, Most: 10})
//	// half a second later: d.Replicas == 7, d.Reason() == "14.0 calls in the last 0.25 s / 2 a replica = 7.0 (panic)"
//
// # Directions
//
// Each direction, up and down, is decided in one of two ways. A direction whose delay was set (upscale_delay_s, downscale_delay_s) follows the algorithm of the
// reference: the load of the look-back period, over target, moved by the gain, and the step is taken once the condition has held for longer than the delay. A
// direction whose delay was not set is adaptive: up by the mean of the panic window, or of the last moment when the last second is far above the
// load that the ready replicas should have, and down to the highest need of the stable window.
package autoscale
