package policy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rude is an error whose text cannot be had.
type rude struct{}

func (rude) Error() string { panic("no text") }

// ofProgram are the policies of the test binary as an executable: see [Main].
func ofProgram() map[string]Served {
	calls := 0
	all := map[string]Served{
		"Counts": {"go:p.counts", Func(func(_ context.Context, v View) (Answer, error) {
			calls++
			return Answer{Replicas: float64(calls), State: json.RawMessage(fmt.Sprintf("%v", v.Total))}, nil
		})},
		"Fails":  {"go:p.fails", Func(func(context.Context, View) (Answer, error) { return Answer{}, errors.New("no number") })},
		"Silent": {"go:p.silent", Func(func(context.Context, View) (Answer, error) { return Answer{}, errors.New("") })},
		"Rude":   {"go:p.rude", Func(func(context.Context, View) (Answer, error) { return Answer{}, rude{} })},
		"Panics": {"go:p.panics", Func(func(context.Context, View) (Answer, error) { panic("much") })},
		"Leaves": {"go:p.leaves", Func(func(context.Context, View) (Answer, error) { runtime.Goexit(); return Answer{}, nil })},
		"Large": {"go:p.large", Func(func(context.Context, View) (Answer, error) {
			return Answer{State: json.RawMessage(`"` + strings.Repeat("x", stateMax) + `"`)}, nil
		})},
		"Broken": {"go:p.broken", Func(func(context.Context, View) (Answer, error) { return Answer{State: json.RawMessage("{")}, nil })},
		"Prints": {"go:p.prints", Func(func(context.Context, View) (Answer, error) {
			read, err := io.ReadAll(os.Stdin)
			fmt.Printf("it reads %q, %v\n", read, err)
			return Answer{Replicas: 1}, nil
		})},
		"Ends": {"go:p.ends", Func(func(context.Context, View) (Answer, error) {
			fmt.Fprintln(os.Stderr, "enough")
			os.Exit(3)
			return Answer{}, nil
		})},
	}
	all[""] = Served{"go:p.share", together(func(views []View) (map[string]Answer, error) {
		answers := map[string]Answer{}
		for i, v := range views {
			answers[v.Deployment] = Answer{Replicas: float64(i + 2), State: v.State}
		}
		return answers, nil
	})}
	return all
}

type together func(views []View) (map[string]Answer, error)

func (f together) Ask(_ context.Context, views []View) (map[string]Answer, error) {
	return Together(f, views)
}

// TestMainAnswers: a process of an executable answers for each of its policies. A failure has a text, and the process serves on, or another one does.
func TestMainAnswers(t *testing.T) {
	t.Parallel()
	said := make(chan string, 100)
	p := process(t, ProcessSettings{
		Open: func(context.Context) (Environment, error) {
			return Environment{Program: os.Args[0], Env: append(os.Environ(), play+"=main")}, nil
		},
		Line: func(text string) { said <- text },
	})
	ask := func(name, in, function string) (Answer, error) {
		got, err := p.Policy(name, Described{Function: function, Entry: in}, time.Minute).Ask(t.Context(), []View{{Deployment: name, Total: 7.5}})
		return got[name], err
	}
	for i := range 2 { // of a deployment that has another name in the executable
		got, err := ask("D", "Counts", "go:p.counts")
		if diff := cmp.Diff(Answer{float64(i + 1), json.RawMessage("7.5")}, got); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
	}
	for in, want := range map[string]string{
		"Fails": "no number", "Silent": "*errors.errorString", "Rude": "panic: no text", "Panics": "panic: much", "Leaves": "", "Ends": "its process has ended (exit status 3):\nenough",
		"Large": "its state has 65538 bytes as JSON, at most 65536", "Broken": "json: error calling MarshalJSON for type json.RawMessage: unexpected end of JSON input",
		"Missing": `the deployment "Missing" of the executable has no policy in Go`,
	} {
		_, err := ask("D", in, "go:p."+strings.ToLower(in))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
		if failed, ok := errors.AsType[*Error](err); in == "Panics" && (!ok || !strings.Contains(failed.Traceback, "serve_test.go")) {
			t.Errorf("%s: %#v", in, err)
		}
		if got, err := ask("D", "Counts", "go:p.counts"); err != nil || got.Replicas == 0 {
			t.Errorf("after %s: %v, %v", in, got, err)
		}
	}
	if _, err := ask("D", "Counts", "go:p.other"); err == nil || err.Error() != `the deployment "Counts" of the executable has the policy go:p.counts, and not go:p.other` {
		t.Errorf("a policy that a file names: %v", err)
	}
	if _, err := ask("D", "Prints", "go:p.prints"); err != nil {
		t.Error(err)
	}
	for text := ""; text != `it reads "", <nil>`; {
		text = <-said
	}
	got, err := p.Policy("", Described{Function: "go:p.share"}, time.Minute).Ask(t.Context(), []View{{Deployment: "A", State: json.RawMessage("1")}, {Deployment: "B"}})
	if diff := cmp.Diff(map[string]Answer{"A": {2, json.RawMessage("1")}, "B": {Replicas: 3}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if err := p.load(t.Context(), "D", Described{Function: "go:p.ends", Entry: "Ends"}); err != nil {
		t.Errorf("a policy that is loaded is not called: %v", err)
	}
	if err := p.load(t.Context(), "D", Described{Function: "go:p.x", Entry: "X"}); err == nil || !strings.Contains(err.Error(), `"X" of the executable has no policy`) {
		t.Error(err)
	}
}

// TestMainLate: a call that is late has its context ended, and holds up its own policy alone. A call that never returns has the process end.
func TestMainLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		left, hold := make(chan string, 1), make(chan struct{})
		questions, ask := io.Pipe()
		answers, in := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- serve(questions, in, map[string]Served{
				"Patient": {"go:p", Func(func(ctx context.Context, _ View) (Answer, error) { <-ctx.Done(); return Answer{}, ctx.Err() })},
				"Stuck":   {"go:p", Func(func(context.Context, View) (Answer, error) { <-hold; return Answer{}, nil })},
				"Quick":   {"go:p", Func(func(context.Context, View) (Answer, error) { return Answer{Replicas: 2}, nil })},
			}, func(text string) { left <- text })
		}()
		lines := bufio.NewScanner(answers)
		asked := func(name string) (a answer) {
			body, _ := json.Marshal(question{ID: 4, Policy: name, Of: Described{Function: "go:p", Entry: name}, Limit: 10, Views: []View{{Deployment: name}}})
			ask.Write(append(body, '\n')) //nolint:errcheck // the answer is missing then
			lines.Scan()
			if err := json.Unmarshal(lines.Bytes(), &a); err != nil || a.ID != 4 {
				t.Errorf("%s: %s, %v", name, lines.Text(), err)
			}
			return a
		}
		ask.Write([]byte("{}\n")) //nolint:errcheck // as above
		const late, still = "it has not answered within 10s", "its call before has not returned"
		for _, step := range []struct{ name, want string }{{"Patient", late}, {"Patient", late}, {"Quick", ""}, {"Stuck", late}, {"Stuck", still}, {"Quick", ""}} {
			begun := time.Now()
			a := asked(step.name)
			if took := time.Since(begun); a.Error != step.want || took != map[bool]time.Duration{true: 10 * time.Second}[step.want == late] {
				t.Errorf("%s: %+v after %s", step.name, a, took)
			}
			synctest.Wait() // a call that ends with its context has returned
		}
		time.Sleep(20*time.Second - 1)
		if asked("Stuck"); len(left) != 0 {
			t.Errorf("before three limits: %s", <-left)
		}
		time.Sleep(1)
		synctest.Wait()
		if len(left) != 1 || <-left != "helve: an autoscaling policy has not returned for 30s: its process ends" {
			t.Error("the process goes on")
		}
		close(hold)
		ask.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestMainRefuses: a question that is none ends the process, and the node says so.
func TestMainRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{}\nno JSON\n"} {
		if err := serve(strings.NewReader(text), io.Discard, nil, func(string) {}); err == nil {
			t.Errorf("%q is answered", text)
		}
	}
}
