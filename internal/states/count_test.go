package states

import (
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// TestCount: replicas that run count by their revision, replicas that stop for the current one, and replicas that start not at all.
func TestCount(t *testing.T) {
	t.Parallel()
	var f DeploymentFacts
	for _, s := range []helvetype.ReplicaState{helvetype.ReplicaStarting, helvetype.ReplicaRunning, helvetype.ReplicaRunning, helvetype.ReplicaStopping} {
		f.Count(s, true)
	}
	for _, s := range []helvetype.ReplicaState{helvetype.ReplicaStarting, helvetype.ReplicaRunning, helvetype.ReplicaStopping} {
		f.Count(s, false)
	}
	if f.Ready != 2 || f.Former != 1 || f.Stopping != 1 {
		t.Errorf("%+v", f)
	}
}
