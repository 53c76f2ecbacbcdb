package admin

import (
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

// lists is a node with calls alone.
type lists struct {
	fakeNode
	all helvetype.CallList
}

func (l lists) Calls(at helvetype.Object, _ int) (of helvetype.CallList) {
	for _, c := range l.all.Calls {
		if (at.Deployment == "" || c.Deployment == at.Deployment) && (at.Replica == "" || c.Replica == at.Replica) {
			of.Calls = append(of.Calls, c)
		}
	}
	of.Unlisted = l.all.Unlisted
	return of
}

// TestCallsOfAReplica: the list of a replica has its calls alone, each with the call for which it waits, which may run elsewhere.
func TestCallsOfAReplica(t *testing.T) {
	t.Parallel()
	all := helvetype.CallList{Calls: []helvetype.Call{
		{ID: "1", Deployment: "A", Replica: "A#1", State: helvetype.CallRunning}, {ID: "2", Parent: "1", Deployment: "B", Replica: "B#1", State: helvetype.CallRunning}, {ID: "3", Deployment: "A", Replica: "A#2"},
	}}
	got := CallList(lists{all: all}, helvetype.Object{Deployment: "A", Replica: "A#1"}, 10).Calls
	if len(got) != 1 || got[0].ID != "1" || got[0].WaitsFor == "" {
		t.Errorf("%+v", got)
	}
}

// TestCallerEnded: a call whose caller is nowhere in the list of the node has been left by it, unless there are calls that are on no list.
func TestCallerEnded(t *testing.T) {
	t.Parallel()
	calls := []helvetype.Call{
		{ID: "1", Deployment: "A"}, {ID: "2", Parent: "1", Deployment: "B"}, {ID: "3", Parent: "0", Deployment: "B"},
	}
	for unlisted, want := range []map[string]bool{{"1": false, "2": false, "3": true}, {"1": false, "2": false, "3": false}} {
		for _, deployment := range []string{"", "B"} {
			for _, c := range CallList(lists{all: helvetype.CallList{Calls: calls, Unlisted: unlisted}}, helvetype.Object{Deployment: deployment}, 10).Calls {
				if c.CallerEnded != want[c.ID] {
					t.Errorf("call %s of a list of %q with %d calls on no list: %t", c.ID, deployment, unlisted, c.CallerEnded)
				}
			}
		}
	}
}
