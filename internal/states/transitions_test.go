package states_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/states"
)

var kinds = []string{helvetype.KindApplication, helvetype.KindDeployment, helvetype.KindReplica}

// of is the part of the table for a kind.
func of(kind string) (rows []states.Transition) {
	for _, t := range states.Table() {
		if t.Kind == kind {
			rows = append(rows, t)
		}
	}
	return rows
}

// statesOf are the states of a kind that exist, in the order of the table.
func statesOf(kind string) (all []states.State) {
	for _, t := range of(kind) {
		for _, s := range []states.State{t.From, t.To} {
			if s != states.Absent && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// reach has the states that follow from a state, itself included.
func reach(kind string, from states.State) map[states.State]bool {
	found := map[states.State]bool{from: true}
	for grown := true; grown; {
		grown = false
		for _, t := range of(kind) {
			if found[t.From] && !found[t.To] {
				found[t.To], grown = true, true
			}
		}
	}
	return found
}

// TestEveryStateIsReached: each state follows from the absent one, and the absent one from each. In a deployment, and in an
// application that is not being deleted, each state follows from each.
func TestEveryStateIsReached(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		all := statesOf(kind)
		if len(all) < 4 {
			t.Errorf("%s: %v", kind, all)
		}
		from := reach(kind, states.Absent)
		for _, s := range all {
			if !from[s] {
				t.Errorf("%s: no events lead to %s", kind, s)
			}
			on := reach(kind, s)
			if !on[states.Absent] {
				t.Errorf("%s: %s never ends", kind, s)
			}
			for _, other := range all {
				if kind != helvetype.KindReplica && !on[other] {
					t.Errorf("%s: no events lead from %s to %s", kind, s, other)
				}
			}
		}
	}
	for _, s := range []string{"STARTING", "RECOVERING", "RUNNING"} {
		if state := states.State(s); slices.ContainsFunc(of(helvetype.KindReplica), func(t states.Transition) bool { return t.From == "STOPPING" && t.To == state }) {
			t.Errorf("a replica that stops is %s", s)
		}
	}
}

// TestTableIsWhole: an event in a state has one row, with a reason, and is alive: it changes the state in one row at least. The table
// has the states of helvetype.
func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	rows, alive := map[string]bool{}, map[string]bool{}
	placeholders := regexp.MustCompile(`\{[^}]*\}`)
	for _, x := range states.Table() {
		key := fmt.Sprint(x.Kind, "/", x.From, "/", x.Event)
		if rows[key] {
			t.Errorf("%s has two rows", key)
		}
		rows[key] = true
		event := x.Kind + "/" + string(x.Event)
		alive[event] = alive[event] || x.From != x.To
		if x.Reason == "" || strings.Trim(x.Reason, "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("%s has the reason %q", key, x.Reason)
		}
		for _, p := range placeholders.FindAllString(x.Message, -1) {
			if p != "{error}" && p != "{deployment}" && p != "{revision}" {
				t.Errorf("%s has %s in its message", key, p)
			}
		}
		if x.From == states.Absent && x.To == states.Absent {
			t.Errorf("%s makes nothing of nothing", key)
		}
	}
	for event, changes := range alive {
		// Scaling does not hide a failure or an update, and a deployment that is given up stays so, but each event must do something
		// somewhere.
		if !changes {
			t.Errorf("%s never changes a state", event)
		}
	}
	for kind, want := range map[string][]states.State{
		helvetype.KindApplication: {"DEPLOYING", "RUNNING", "UNHEALTHY", "DEPLOY_FAILED", "DELETING"},
		helvetype.KindDeployment:  {"UPDATING", "UPSCALING", "DOWNSCALING", "HEALTHY", "UNHEALTHY", "DEPLOY_FAILED"},
		helvetype.KindReplica:     {"STARTING", "RECOVERING", "RUNNING", "STOPPING"},
	} {
		if got := statesOf(kind); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: states %v, want %v", kind, got, want)
		}
	}
}

// TestRandomEvents: after any sequence of events an object is in a state of the table, and an event that cannot happen is an
// error that names object, state and event.
func TestRandomEvents(t *testing.T) {
	t.Parallel()
	m := states.NewMachine()
	var events []states.Event
	for _, x := range states.Table() {
		if !slices.Contains(events, x.Event) {
			events = append(events, x.Event)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, kind := range kinds {
		object := helvetype.Object{Kind: kind, App: "a", Deployment: "D"}
		legal := append(statesOf(kind), states.Absent)
		state, fired, refused := states.Absent, 0, 0
		for i := range uint64(20_000) {
			event := events[random.IntN(len(events))]
			ev, err := m.Fire(object, state, event, states.Facts{Error: "e"}, i)
			if illegal, ok := errors.AsType[*states.IllegalError](err); ok {
				if refused++; illegal.From != state || illegal.Event != event || !strings.Contains(err.Error(), string(event)) {
					t.Fatal(err)
				}
				continue
			}
			fired++
			if err != nil || ev.Cause != i || ev.From != string(state) || ev.Reason == "" || ev.Object != object {
				t.Fatalf("%+v: %v", ev, err)
			}
			if state = states.State(ev.To); !slices.Contains(legal, state) {
				t.Fatalf("%s is %q", kind, state)
			}
		}
		if fired == 0 || refused == 0 {
			t.Errorf("%s: %d events fired, %d were refused", kind, fired, refused)
		}
	}
}

func TestFire(t *testing.T) {
	t.Parallel()
	m := states.NewMachine()
	o := helvetype.Object{Kind: helvetype.KindDeployment, App: "a", Deployment: "D"}
	got, err := m.Fire(o, "HEALTHY", states.Failed, states.Facts{Error: "killed"}, 7)
	want := helvetype.Event{Object: o, From: "HEALTHY", To: "UNHEALTHY", Reason: "replica_failed", Message: "killed", Cause: 7}
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v\n%v", got, want, err)
	}
	_, err = m.Fire(o, states.Absent, states.Ready, states.Facts{}, 0)
	if err == nil || err.Error() != "deployment a/D is absent, in which there is no event ready" {
		t.Error(err)
	}
}

// TestChanges: an event whose transition keeps state and message changes nothing, and one that ends the trouble of an object takes its
// message away.
func TestChanges(t *testing.T) {
	t.Parallel()
	m := states.NewMachine()
	for name, c := range map[string]struct {
		from    states.Shown
		event   states.Event
		facts   states.Facts
		want    bool
		message string // of the object afterwards
	}{
		"another state":           {states.Shown{State: "HEALTHY"}, states.Failed, states.Facts{Error: "killed"}, true, ""},
		"another message":         {states.Shown{State: "UNHEALTHY", Message: "slow"}, states.Failed, states.Facts{Error: "killed"}, true, "slow"},
		"the same":                {states.Shown{State: "UNHEALTHY", Message: "killed"}, states.Failed, states.Facts{Error: "killed"}, false, "killed"},
		"a state without message": {states.Shown{State: "HEALTHY", Message: "slow"}, states.Ready, states.Facts{}, false, ""},
		"an event that cannot be": {states.Shown{State: states.Absent}, states.Ready, states.Facts{}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := m.Changes(helvetype.KindDeployment, &c.from, c.event, c.facts); got != c.want || c.from.Message != c.message {
				t.Errorf("%v, with the message %q", got, c.from.Message)
			}
		})
	}
}

// updatePage is set by `go test ./internal/states -run TestPage -page.update`.
var updatePage = flag.Bool("page.update", false, "write docs/state-machines.md")

// TestPageIsFresh: docs/state-machines.md is made of the table.
func TestPageIsFresh(t *testing.T) {
	t.Parallel()
	const path = "../../docs/state-machines.md"
	want := page()
	if *updatePage {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("docs/state-machines.md is not what the table of transitions makes: go test ./internal/states -run TestPage -page.update (%v)", err)
	}
}

// about says what a reader has to know of a kind beside its table.
var about = map[string]string{
	helvetype.KindApplication: "An application that has started is in the state of its worst deployment, by the order DEPLOY_FAILED, UNHEALTHY, " +
		"UPDATING (and UPSCALING, DOWNSCALING), HEALTHY. For example, of two deployments one is HEALTHY and one UNHEALTHY, so the application is UNHEALTHY. " +
		"NOT_STARTED is the answer for a name that no application has. When a durable node ends, its applications have the events of a delete, with the " +
		"message that the node ends and that the application is kept.",
	helvetype.KindDeployment: "The controller looks at the facts and derives the event from them. Between two looks much may happen, so nearly every state follows every other. " +
		"The reasons are the reference's status triggers where it has one.",
	helvetype.KindReplica: "A replica that has ended is replaced by another one, with an id of its own: the states of the old one are over.",
}

func page() string {
	var b strings.Builder
	b.WriteString("# States\n\nThis page is made of the table of transitions in [internal/states](../internal/states/transitions.go); a test holds it. " +
		"In a state, an event leads to the next state. An event that a state does not have is a mistake in the program: tests fail of it, a node logs it and keeps the state. " +
		"Each transition is recorded as an event with its reason, its message and the event that caused it (`helve events`).\n\n" +
		"In messages, `{error}` is the last failure, `{deployment}` the deployment that the state comes from, `{revision}` the number of a revision. " +
		"A message whose parts are not known is what a slow start waits for, if there is one.\n")
	for _, kind := range kinds {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n```mermaid\nstateDiagram-v2\n", map[string]string{
			helvetype.KindApplication: "Applications", helvetype.KindDeployment: "Deployments", helvetype.KindReplica: "Replicas",
		}[kind], about[kind])
		type arrow struct{ from, to states.State }
		var order []arrow
		labels := map[arrow][]string{}
		type row struct {
			event           states.Event
			to              states.State
			reason, message string
		}
		var rows []row
		froms := map[row][]string{}
		for _, t := range of(kind) {
			a := arrow{t.From, t.To}
			if t.From != t.To {
				if labels[a] == nil {
					order = append(order, a)
				}
				labels[a] = append(labels[a], string(t.Event))
			}
			r := row{t.Event, t.To, t.Reason, t.Message}
			if froms[r] == nil {
				rows = append(rows, r)
			}
			froms[r] = append(froms[r], name(t.From))
		}
		for _, a := range order {
			fmt.Fprintf(&b, "    %s --> %s: %s\n", node(a.from), node(a.to), strings.Join(labels[a], ", "))
		}
		b.WriteString("```\n\n| event | from | to | reason | message |\n|---|---|---|---|---|\n")
		for _, r := range rows {
			fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` | %s |\n", r.event, strings.Join(froms[r], ", "), name(r.to), r.reason, r.message)
		}
	}
	return b.String()
}

func name(s states.State) string {
	if s == states.Absent {
		return "(absent)"
	}
	return string(s)
}

func node(s states.State) string {
	if s == states.Absent {
		return "[*]"
	}
	return string(s)
}

// TestEventsAreExplained: the page names every event and state of the table.
func TestEventsAreExplained(t *testing.T) {
	t.Parallel()
	text := page()
	all := map[string]bool{}
	for _, x := range states.Table() {
		all["`"+string(x.Event)+"`"], all[name(x.To)] = true, true
	}
	for _, word := range slices.Sorted(maps.Keys(all)) {
		if !strings.Contains(text, word) {
			t.Errorf("the page has no %s", word)
		}
	}
}
