package policy

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Env is the variable of a worker of an executable in Go that answers for the policies of its application, and has no replicas.
const Env = "HELVE_POLICIES"

// Served is a policy of the executable that answers.
type Served struct {
	// Name is the name of the function behind [helvetype.GoPolicy].
	Name   string
	Policy Policy
}

// Main answers the questions of a [Process] about the policies of this executable, by their names ([Described].Entry), until the node closes its end. It reads them from the standard
// input, and writes the answers to the first descriptor after the standard ones. It is the same protocol as that of the Python package (_policies.py): a line with a JSON object for each.
func Main(all map[string]Served) error {
	questions, answers := os.Stdin, os.NewFile(3, "answers")
	syscall.CloseOnExec(3) // processes that the user's code starts do not hold it open
	if none, err := os.Open(os.DevNull); err == nil {
		os.Stdin = none // the user's code reads no questions
	}
	return serve(questions, answers, all, func(text string) {
		fmt.Fprintln(os.Stderr, text)
		os.Exit(1)
	})
}

// serve answers questions until there are no more. leave ends the process.
func serve(questions io.Reader, answers io.Writer, all map[string]Served, leave func(text string)) error {
	in := bufio.NewReaderSize(questions, 64<<10)
	if _, err := readLine(in); err != nil { // the file with the code of policies in Python
		return fmt.Errorf("the node has asked nothing: %w", err)
	}
	s := &server{all: all, calls: map[string]bool{}, leave: leave}
	var mu sync.Mutex
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		var q question
		if err == nil {
			err = json.Unmarshal(line, &q)
		}
		if err != nil {
			return fmt.Errorf("a question of the node: %w", err)
		}
		go func() {
			a := s.answer(q)
			a.ID = q.ID
			body, err := json.Marshal(a)
			if err != nil { // of a state that is no JSON
				body, _ = json.Marshal(answer{ID: q.ID, Error: err.Error()}) //nolint:errcheck // a number and a text
			}
			mu.Lock()
			defer mu.Unlock()
			answers.Write(append(body, '\n')) //nolint:errcheck // the node has gone: questions end too
		}()
	}
}

// server has the calls that run.
type server struct {
	all   map[string]Served
	leave func(text string)

	mu    sync.Mutex
	calls map[string]bool // that run, by policy
}

func (s *server) answer(q question) (a answer) {
	of, err := s.find(q.Of)
	var answers map[string]Answer
	if err == nil && !q.Load {
		answers, err = s.call(of.Policy, q)
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		a.Error, a.Traceback = failed.Text, failed.Traceback
	} else if err != nil {
		a.Error = err.Error()
	}
	a.Replicas, a.States = map[string]float64{}, map[string]json.RawMessage{}
	for name, of := range answers {
		a.Replicas[name] = of.Replicas
		if of.State != nil {
			a.States[name] = of.State
		}
	}
	return a
}

// find is the policy of a description. Another function than that of the executable is a mistake: a file names it, for example.
func (s *server) find(of Described) (Served, error) {
	p, ok := s.all[of.Entry]
	where := fmt.Sprintf("the deployment %q of the executable", of.Entry)
	if of.Entry == "" {
		where = "the application of the executable, for all of its deployments,"
	}
	switch {
	case !ok:
		return p, &Error{Text: where + " has no policy in Go"}
	case p.Name != of.Function:
		return p, &Error{Text: fmt.Sprintf("%s has the policy %s, and not %s", where, p.Name, of.Function)}
	}
	return p, nil
}

// call asks a policy, which has one call at a time: a call that is late goes on, and its answer counts for nothing. A goroutine cannot be ended: for example, a policy of a limit of 10 s does not return. Its
// question fails after 10 s, the questions of the next 20 s fail at once, and then the process ends, so that the next question is for another process.
func (s *server) call(p Policy, q question) (map[string]Answer, error) {
	limit := time.Duration(q.Limit * float64(time.Second))
	s.mu.Lock()
	runs := s.calls[q.Policy]
	s.calls[q.Policy] = true
	s.mu.Unlock()
	if runs {
		return nil, &Error{Text: "its call before has not returned"}
	}
	watch := time.AfterFunc(stuck*limit, func() {
		s.leave(fmt.Sprintf("helve: an autoscaling policy has not returned for %s: its process ends", stuck*limit))
	})
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, &Error{Text: fmt.Sprintf("it has not answered within %s", limit)})
	type outcome struct {
		answers map[string]Answer
		err     error
	}
	done := make(chan outcome, 1)
	go func() {
		defer cancel()
		defer watch.Stop()
		var answers map[string]Answer
		var err error
		if e := call.Enclose(func() {
			answers, err = p.Ask(ctx, q.Views)
			if _, ok := errors.AsType[*Error](err); err != nil && !ok {
				err = &Error{Text: cmp.Or(err.Error(), fmt.Sprintf("%T", err))} // the node takes an empty text for an answer
			}
		}); e != nil { // of runtime.Goexit, or of the method Error: a panic of the function is an error already
			err = &Error{Text: e.Message}
		}
		if err != nil && ctx.Err() != nil { // the error of its own context says less
			err = context.Cause(ctx)
		}
		s.mu.Lock()
		delete(s.calls, q.Policy)
		s.mu.Unlock()
		done <- outcome{answers, err}
	}()
	select {
	case got := <-done:
		return got.answers, got.err
	case <-ctx.Done():
		select {
		case got := <-done: // cancel comes after the answer
			return got.answers, got.err
		default:
			return nil, context.Cause(ctx)
		}
	}
}
