package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/worker"
)

// blocked has a method that tells that it runs, and then waits for the end of its test.
type blocked struct{ entered, end chan struct{} }

func (b *blocked) Wait(context.Context, string) (string, error) {
	b.entered <- struct{}{}
	<-b.end
	return "", nil
}

// front calls it.
type front struct {
	wait helve.Method[string, string]
}

func (f *front) Ask(ctx context.Context, text string) (string, error) {
	return f.wait.Remote(ctx, text).Result(ctx)
}

// TestCallsOfARunningNode: a call that runs, the call that it has made, and a call that waits for the slot of that one.
func TestCallsOfARunningNode(t *testing.T) {
	t.Setenv(worker.RuntimeDirEnv, t.TempDir())
	b := &blocked{make(chan struct{}), make(chan struct{})}
	s, err := helve.Config{Admin: adminPrivate}.Run(t.Context(), func() (*helve.App, error) {
		app := helve.NewApp("stuck")
		d := helve.Deploy(app, "Blocked", func(context.Context) (*blocked, error) { return b, nil }, helve.Options{MaxOngoingRequests: new(1)})
		wait := helve.MethodOf(d, (*blocked).Wait)
		f := helve.Deploy(app, "Front", func(context.Context) (*front, error) { return &front{wait}, nil }, helve.Options{Uses: []helve.Target{wait}})
		app.Ingress(helve.MethodOf(f, (*front).Ask))
		return app, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background()) //nolint:errcheck // its calls have ended
	if status, stdout, _ := output(t, "calls"); status != 0 || stdout != "no call waits or runs\n" {
		t.Errorf("%d, %q", status, stdout)
	}
	h, err := helve.HandleOf[*front](s, "stuck", "Front")
	if err != nil {
		t.Fatal(err)
	}
	ask := helve.MethodOf(h, (*front).Ask)
	first := ask.Remote(t.Context(), "x")
	<-b.entered
	second := ask.Remote(t.Context(), "y")
	var text string
	for until := time.Now().Add(time.Minute); time.Now().Before(until) && !strings.Contains(text, "a slot of stuck/Blocked"); {
		_, text, _ = output(t, "calls")
	}
	for _, want := range []string{"running  stuck/Front.Ask in Front#", "running    stuck/Blocked.Wait in Blocked#", "waiting    stuck/Blocked.Wait: waits for a slot of stuck/Blocked", "request " + second.RequestID() + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s; want %q", text, want)
		}
	}
	if _, text, _ := output(t, "calls", "--deployment", "Front", "-o", "json"); strings.Contains(text, `"Blocked"`) || strings.Count(text, `"method": "Ask"`) != 2 {
		t.Errorf("calls of Front: %s", text)
	}
	close(b.end)
	<-b.entered
	for _, r := range []*helve.Response[string]{first, second} {
		if _, err := r.Result(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestCallsOverHTTPAreListed: every running call that came over HTTP is in the list with its request id and an id of its own, also when a
// replica runs more calls than the first table of its list has places.
func TestCallsOverHTTPAreListed(t *testing.T) {
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Socket} {
		t.Run(r.Name, func(t *testing.T) {
			t.Setenv(worker.RuntimeDirEnv, t.TempDir())
			const requests = 80
			b := &blocked{make(chan struct{}), make(chan struct{})}
			config := r.Config
			config.Admin, config.HTTP = adminPrivate, "127.0.0.1:0"
			s, err := config.Run(t.Context(), func() (*helve.App, error) {
				app := helve.NewApp("stuck")
				d := helve.Deploy(app, "Blocked", func(context.Context) (*blocked, error) { return b, nil }, helve.Options{MaxOngoingRequests: new(requests)})
				app.Ingress(helve.MethodOf(d, (*blocked).Wait))
				return app, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close(context.Background()) //nolint:errcheck // its calls have ended
			base, _ := s.HTTP()
			want := map[string]int{}
			var asked sync.WaitGroup
			for i := range requests {
				id := fmt.Sprint("request ", i)
				want[id] = 1
				asked.Go(func() {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base, strings.NewReader("x"))
					if err != nil {
						t.Error(err)
						return
					}
					req.Header.Set("X-Request-Id", id)
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				})
			}
			for range requests {
				<-b.entered
			}
			_, text, _ := output(t, "calls", "-o", "json")
			close(b.end)
			asked.Wait()
			var list helvetype.CallList
			if err := json.Unmarshal([]byte(text), &list); err != nil {
				t.Fatal(err)
			}
			got, ids := map[string]int{}, map[string]bool{}
			for _, c := range list.Calls {
				got[c.RequestID]++
				ids[c.ID] = true
			}
			if diff := cmp.Diff(want, got); diff != "" || len(ids) != requests || ids[""] || list.Unlisted != 0 {
				t.Errorf("%d ids, %d unlisted, %s", len(ids), list.Unlisted, diff)
			}
		})
	}
}
