package policy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// play names the variable that makes this test binary a process of policies.
const play = "HELVE_TEST_POLICIES"

// behaviours are of policies on one system only, by name.
var behaviours = map[string]func(q question, answers io.Writer){}

func TestMain(m *testing.M) {
	switch os.Getenv(play) {
	case "":
	case "main":
		if err := Main(ofProgram()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	default:
		os.Exit(policies())
	}
	os.Exit(m.Run())
}

// policies is a process in the place of the interpreter. The name of a policy says how it behaves.
func policies() int {
	in := bufio.NewReader(os.Stdin)
	answers := os.NewFile(3, "answers")
	first, err := in.ReadBytes('\n')
	if err != nil {
		return 9
	}
	calls := 0
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var q question
		if err := json.Unmarshal(line, &q); err != nil {
			return 9
		}
		if q.Load {
			fmt.Fprintf(answers, `{"id":%d,"error":%q,"traceback":"File \"f.py\", line 1"}`+"\n", q.ID, strings.TrimPrefix(q.Of.Function, "m:"))
			continue
		}
		calls++
		if q.Policy == "waits later" && calls > 1 {
			q.Policy = "waits"
		}
		if of := behaviours[q.Policy]; of != nil {
			of(q, answers)
			continue
		}
		switch q.Policy {
		case "dies":
			fmt.Fprintln(os.Stderr, "out of memory")
			return 3
		case "waits":
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGUSR1)
			<-c
		case "lies":
			fmt.Fprintln(answers, "no JSON")
		case "fails":
			fmt.Fprintf(answers, `{"id":%d,"error":"ValueError: x","traceback":"line 1"}`+"\n", q.ID)
		case "first": // the first line, as the state
			fmt.Fprintf(answers, `{"id":%d,"replicas":{"D":1},"states":{"D":%s}}`+"\n", q.ID, bytes.TrimSpace(first))
		case "negative":
			fmt.Fprintf(answers, `{"id":%d,"replicas":{"D":-1}}`+"\n", q.ID)
		default:
			fmt.Fprintf(answers, `{"id":%d,"replicas":{"D":%d},"states":{"D":{"limit":%v,"total":%v}}}`+"\n", q.ID, calls, q.Limit, q.Views[0].Total)
		}
	}
}

func process(t *testing.T, s ProcessSettings) *Process {
	t.Helper()
	if s.Open == nil {
		s.Open = func(context.Context) (Environment, error) {
			return Environment{Program: os.Args[0], Env: append(os.Environ(), play+"=1"), Code: "/code"}, nil
		}
	}
	p := NewProcess(s)
	t.Cleanup(p.Close)
	return p
}

// ask is a policy of the process that is named as it behaves.
func ask(p *Process, name string) Policy {
	return p.Policy(name, Described{Function: "m:f", Entry: "e"}, time.Minute)
}

func TestProcessAnswers(t *testing.T) {
	t.Parallel()
	p := process(t, ProcessSettings{})
	for i := range 3 {
		got, err := ask(p, "D").Ask(t.Context(), []View{{Deployment: "D", Total: 7.5}})
		want := map[string]Answer{"D": {float64(i + 1), json.RawMessage(`{"limit":60,"total":7.5}`)}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
	}
	got, err := ask(p, "first").Ask(t.Context(), []View{{Deployment: "D"}})
	want := `{"code":"/code"}`
	if err != nil || string(got["D"].State) != want {
		t.Errorf("%s, %v", got["D"].State, err)
	}
}

// TestProcessFails: each failure has a text, and the process serves on, or another one does.
func TestProcessFails(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var printed []string
	p := process(t, ProcessSettings{Line: func(text string) {
		mu.Lock()
		defer mu.Unlock()
		printed = append(printed, text)
	}})
	for name, want := range map[string]string{
		"fails": "ValueError: x", "dies": "its process has ended (exit status 3):\nout of memory", "lies": "its process has ended",
		"negative": "it must answer a number of replicas, 0 or more, and has answered -1",
	} {
		_, err := ask(p, name).Ask(t.Context(), []View{{Deployment: "D"}})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := ask(p, "D").Ask(t.Context(), []View{{Deployment: "D"}}); err != nil || got["D"].Replicas == 0 {
			t.Errorf("after %s: %v, %v", name, got, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if text := strings.Join(printed, "\n"); !strings.Contains(text, "out of memory") || !strings.Contains(text, "the answer of the process is not one") {
		t.Errorf("%q", text)
	}
}

// TestProcessHangs: a process that does not even say that an answer is late ends by the clock, soon where the policy is known to be loaded.
func TestProcessHangs(t *testing.T) {
	t.Parallel()
	p := process(t, ProcessSettings{})
	const limit = 20 * time.Millisecond
	of := p.Policy("waits later", Described{Function: "m:f"}, limit)
	if _, err := of.Ask(t.Context(), []View{{Deployment: "D"}}); err != nil { // a start that takes longer than the limit is awaited
		t.Fatal(err)
	}
	_, err := of.Ask(t.Context(), []View{{Deployment: "D"}})
	if want := "its process has not answered for 2s, and is ended"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if got, err := ask(p, "D").Ask(t.Context(), []View{{Deployment: "D"}}); err != nil || got["D"].Replicas != 1 {
		t.Errorf("the process after it: %v, %v", got, err)
	}
}

// TestKeyOfAPolicy: a policy is loaded by its own answer, and not by that of another one of its class.
func TestKeyOfAPolicy(t *testing.T) {
	t.Parallel()
	one := ofProcess{name: "A", of: Described{Function: "scaling:P", Kwargs: json.RawMessage(`{"to":1}`)}}
	other := one
	other.of.Kwargs = json.RawMessage(`{"to":2}`)
	if one.key() == other.key() {
		t.Error("other arguments")
	}
	if other = one; one.key() != other.key() {
		t.Error("the same policy")
	}
	if other.name = "B"; one.key() == other.key() {
		t.Error("another deployment")
	}
}

// TestProcessCloses: questions that are under way end with the process.
func TestProcessCloses(t *testing.T) {
	t.Parallel()
	released := make(chan struct{})
	p := process(t, ProcessSettings{Open: func(context.Context) (Environment, error) {
		return Environment{Program: os.Args[0], Env: append(os.Environ(), play+"=1"), Release: func() { close(released) }}, nil
	}})
	if _, err := ask(p, "D").Ask(t.Context(), []View{{Deployment: "D"}}); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := ask(p, "waits").Ask(context.Background(), []View{{Deployment: "D"}})
		failed <- err
	}()
	p.Close()
	<-released
	if err := <-failed; err != errClosed { //nolint:errorlint // the error itself
		t.Error(err)
	}
	if _, err := ask(p, "D").Ask(t.Context(), nil); err != errClosed { //nolint:errorlint // the error itself
		t.Error(err)
	}
}

func TestProcessDoesNotStart(t *testing.T) {
	t.Parallel()
	p := process(t, ProcessSettings{Open: func(context.Context) (Environment, error) {
		return Environment{Program: "/nowhere/python"}, nil
	}})
	if _, err := ask(p, "D").Ask(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "/nowhere/python") {
		t.Error(err)
	}
}
