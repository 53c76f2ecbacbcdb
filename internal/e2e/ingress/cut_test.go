package ingress_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// entered is an http.Handler that reports its begin and then waits for the end of its request.
type entered chan struct{}

// wait reports a begin and waits for the end of the context, which may come first: a call that waited for a slot gets one while others are cut off.
func (e entered) wait(ctx context.Context) {
	select {
	case e <- struct{}{}:
		<-ctx.Done()
	case <-ctx.Done():
	}
}

func (e entered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/begun" {
		io.WriteString(w, "begun")            //nolint:errcheck // the end of the node cuts it off
		http.NewResponseController(w).Flush() //nolint:errcheck // as above
	}
	e.wait(r.Context())
}

// TestRequestsCutOffByTheEndOfTheNode: a second SIGTERM, which is the end of Close's context, cuts off the requests that run and wait. That is not the
// clients' leaving: the access log has one status for it, wherever the request was, and the error of Close names all of them.
func TestRequestsCutOffByTheEndOfTheNode(t *testing.T) {
	t.Parallel()
	fixture.EachOf(t, []helvetest.Runner{helvetest.Local, helvetest.Stubborn, helvetest.Socket}, func(t *testing.T, r helvetest.Runner) {
		began := make(entered)
		lab := &fixture.Lab{
			OnDo: func(ctx context.Context, _ int) (int, error) {
				began.wait(ctx)
				return 0, ctx.Err()
			},
			OnSeq: func(ctx context.Context, n int) iter.Seq2[int, error] {
				return func(yield func(int, error) bool) {
					if n > 0 && !yield(n, nil) {
						return
					}
					began.wait(ctx)
				}
			},
		}
		build := func(name string, ingress func(h helve.Handle[*fixture.Lab]) helve.Ingress, o helve.Options) helve.Build {
			return func() (*helve.App, error) {
				app := helve.NewApp(name)
				app.RoutePrefix("/" + name)
				app.Ingress(ingress(helve.Deploy(app, "Lab", func(context.Context) (*fixture.Lab, error) { return lab, nil }, o)))
				return app, nil
			}
		}
		do := func(h helve.Handle[*fixture.Lab]) helve.Ingress { return helve.MethodOf(h, (*fixture.Lab).Do) }
		seq := func(h helve.Handle[*fixture.Lab]) helve.Ingress { return helve.StreamOf(h, (*fixture.Lab).Seq) }
		handler := func() (*helve.App, error) {
			app := helve.NewApp("handler")
			app.RoutePrefix("/handler")
			app.Ingress(helve.HTTP(helve.Deploy(app, "Handler", func(context.Context) (entered, error) { return began, nil }, helve.Options{Isolation: helve.InNode})))
			return app, nil
		}
		c := r.Config
		log := fixture.NewOutput()
		c.AccessLog = log
		s, url := served(t, c, build("method", do, helve.Options{}), build("stream", seq, helve.Options{}), build("full", do, fixture.OneSlot()), handler)
		var clients sync.WaitGroup
		ask := func(path, body string) {
			clients.Go(func() {
				req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, url+path, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err == nil {
					io.Copy(io.Discard, resp.Body) //nolint:errcheck // it is cut off
					resp.Body.Close()
				}
			})
		}
		for _, running := range []struct{ path, body string }{
			{"/method", "1"}, {"/stream", "0"}, {"/stream", "1"}, {"/full", "1"}, {"/handler", ""}, {"/handler/begun", ""},
		} {
			ask(running.path, running.body)
			<-began
		}
		ask("/full", "1")
		fixture.Eventually(t, func() string {
			if n := s.Status().Applications["full"].Deployments["Lab"].Calls.Queued; n != 1 {
				return fmt.Sprintf("%d calls wait", n)
			}
			return ""
		})
		over, cancel := context.WithCancel(t.Context())
		cancel()
		closed := fmt.Sprint(s.Close(over))
		for _, want := range []string{"method/Lab: 1 call still ran", "stream/Lab: 2 calls still ran", "full/Lab: 1 call waited for a slot, 1 call still ran", "handler/Handler: 2 calls still ran"} {
			if !strings.Contains(closed, want) {
				t.Errorf("the error of Close is %q, without %q", closed, want)
			}
		}
		clients.Wait()
		const requests = 7
		fixture.Eventually(t, func() string {
			if n := strings.Count(log.Text(), "\n"); n != requests {
				return fmt.Sprintf("%d lines in the access log:\n%s", n, log.Text())
			}
			return ""
		})
		if n := len(regexp.MustCompile(` POST /(method|stream|full|handler) 503 `).FindAllString(log.Text(), -1)); n != requests {
			t.Errorf("%d of %d requests have the status 503:\n%s", n, requests, log.Text())
		}
	})
}
