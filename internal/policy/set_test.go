package policy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSetScrubs: errors and tracebacks of policies, in Go and in Python, and lines that their process prints have no secret.
func TestSetScrubs(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var printed []string
	asked := make(chan struct{}, 10)
	set := NewSet(SetSettings{
		Changed: func() { asked <- struct{}{} },
		Line: func(app, text string) {
			mu.Lock()
			defer mu.Unlock()
			printed = append(printed, app+": "+text)
		},
		Scrub: func(text string) string {
			return strings.NewReplacer("memory", "***", "ValueError", "***", "line 1", "***", "hunter2", "***").Replace(text)
		},
	})
	defer set.Close()
	beside := func(context.Context) (Environment, error) {
		return Environment{Program: os.Args[0], Env: append(os.Environ(), play+"=1")}, nil
	}
	inGo := func(err error) Source {
		return Source{App: "shop", Deployment: "go", Go: Func(func(context.Context, View) (Answer, error) { return Answer{}, err }), Version: err.Error(), Limit: time.Minute}
	}
	for _, x := range []struct {
		of   Source
		want string
	}{
		{Source{App: "shop", Deployment: "fails", Beside: beside, Limit: time.Minute}, "***: x"},
		{Source{App: "shop", Deployment: "dies", Beside: beside, Limit: time.Minute}, "its process has ended (exit status 3):\nout of ***"},
		{inGo(errors.New("no hunter2")), "no ***"},
		{inGo(&Error{Text: "is hunter2", Traceback: "line 1"}), "is ***"},
	} {
		now := time.Now() // of both looks: the second one does not ask again, however late it is
		of := func() Advice {
			return set.Advise(now, x.of, func() View { return View{Deployment: x.of.Deployment} })
		}
		of()
		<-asked
		f := of().Failure
		if f == nil || f.Err.Error() != x.want {
			t.Errorf("%s: %+v", x.of.Deployment, f)
			continue
		}
		if e, ok := errors.AsType[*Error](f.Err); ok && e.Traceback != "" && e.Traceback != "***" {
			t.Error(e.Traceback)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(printed, "\n"); got != "shop: out of ***" {
		t.Error(got)
	}
}

// TestSetKeepsStates: a question has the state of the answer before, also where that answer has come just now, and the state of the store at first.
func TestSetKeepsStates(t *testing.T) {
	t.Parallel()
	for _, together := range [][]string{nil, {"D"}} {
		asked := make(chan struct{}, 1)
		set := NewSet(SetSettings{Changed: func() { asked <- struct{}{} }})
		var states []string
		count := Func(func(_ context.Context, v View) (Answer, error) {
			states = append(states, string(v.State))
			return Answer{Replicas: 1, State: fmt.Appendf(nil, "%d", len(states))}, nil
		})
		of := Source{App: "shop", Deployment: "D", Together: together, Go: count, Limit: time.Minute}
		now := time.Now()
		for i := range 3 {
			set.Advise(now.Add(time.Duration(i)*time.Second), of, func() View { return View{Deployment: "D", State: []byte("stored")} })
			<-asked
		}
		if got := strings.Join(states, " "); got != "stored 1 2" {
			t.Error(got)
		}
		set.Close()
	}
}
