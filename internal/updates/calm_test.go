package updates

import (
	"fmt"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/usage"
)

func TestNumberless(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                "",
		"41 calls wait for Ranker#001":    "0 calls wait for Ranker#001",
		"it has waited for pip for 1m2s":  "it has waited for pip for 0",
		"it has waited for pip for 59.5s": "it has waited for pip for 0",
		"load 2.5, target 2.":             "load 0, target 0.",
		"12ms, 3 more":                    "0, 0 more",
		"3 slots":                         "0 slots",
		"shop2/v1-4":                      "shop2/v1-4",
		`{"n":"5s"}`:                      `{"n":"0"}`,
	} {
		if got := string(numberless(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestCalm: a sentence whose numbers change each second comes each 5 s, as it is then, and another sentence, state or number of replicas comes at once.
func TestCalm(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1e9, 0)
	look := func(second int, problem, message, reason string, wanted int) *state {
		return newState(&Facts{
			At: begin.Add(time.Duration(second) * time.Second), Rates: rates{rate: usage.Rate{Calls: 1}}, Problems: helvetype.Overview{Sentence: problem},
			Status: helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {
				Message: message, Deployments: map[string]helvetype.DeploymentStatus{"Ranker": {Message: message, Wanted: wanted, Autoscaling: &helvetype.Autoscaling{Reason: reason}}},
			}}},
		})
	}
	var m memory
	step := func(s *state, want string) {
		t.Helper()
		out := m.next(s, View{App: "shop"}, false)
		got := ""
		if out.Problems != nil {
			got += string(out.Problems[len(`{"sentence":"`):][0])
		}
		if got += fmt.Sprint(len(out.Applications), len(out.Deployments)); got != want {
			t.Errorf("%s: %s, want %s", s.facts.At.Sub(begin), got, want)
		}
	}
	step(look(0, "1 wait", "for 1s", "load 1", 2), "11 1")
	for i := 1; i < 5; i++ {
		step(look(i, fmt.Sprintf("%d wait", i+1), fmt.Sprintf("for %ds", i+1), fmt.Sprintf("load %d", i+1), 2), "0 0")
	}
	step(look(5, "6 wait", "for 6s", "load 6", 2), "61 1")
	step(look(6, "6 wait", "for 6s", "load 6", 2), "0 0")
	step(look(7, "7 wait", "for 7s", "none", 3), "0 1")
	step(look(8, "none", "failed", "none", 3), "n1 1")
	step(look(9, "9 wait", "failed", "load 9", 3), "90 0")
	step(look(14, "9 wait", "failed", "load 9", 3), "0 1")
}
