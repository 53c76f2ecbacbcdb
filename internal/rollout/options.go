package rollout

import (
	"time"

	"github.com/helve-serve/helve/internal/spec"
)

// Of are the settings of a deployment of a number of replicas.
func Of(o spec.Effective, replicas int) Settings {
	r := &o.Rollout
	s := Settings{Steps: o.Steps(replicas), Deadline: r.ProgressDeadline, RollBack: r.AutomaticRollback, Rate: Rate(r.ErrorRate)}
	if pause := r.StepPause; pause != spec.UntilResume {
		s.StepPause = &pause
	}
	return s
}

// MinReady is how long a replica of a deployment has to be ready before it takes the place of another.
func MinReady(o spec.Effective) time.Duration { return o.Rollout.MinReady }
