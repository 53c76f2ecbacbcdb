package ingress_test

import (
	"bufio"
	"context"
	"io"
	"iter"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Chunker is a handler that streams a redirection in two lines, the second when it may.
type Chunker struct {
	proceed fixture.Latch
	ended   chan error
}

func (c *Chunker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-chunks")
	w.Header().Set("Location", "/elsewhere")
	w.Header().Set("X-Own", "kept")
	w.WriteHeader(http.StatusMovedPermanently)
	io.WriteString(w, "one\n")
	w.(http.Flusher).Flush()
	if err := c.proceed.Wait(r.Context()); err != nil {
		c.ended <- err
		return
	}
	io.WriteString(w, "two\n")
}

// TestHandlerStreams: status, headers and media type of a handler arrive, its chunks as they are written, and two streams at once
// of one replica; a client that goes away ends the handler's context.
func TestHandlerStreams(t *testing.T) {
	t.Parallel()
	fixture.EachOf(t, helvetest.InNode(), func(t *testing.T, r helvetest.Runner) {
		c := &Chunker{proceed: make(fixture.Latch), ended: make(chan error, 1)}
		s := helvetest.Start(t, r.Config, func() (*helve.App, error) {
			app := helve.NewApp("chunks")
			app.Ingress(helve.HTTP(helve.Deploy(app, "Chunker", func(context.Context) (*Chunker, error) { return c, nil }, helve.Options{})))
			return app, nil
		})
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		t.Cleanup(client.CloseIdleConnections)
		open := func(ctx context.Context) (*http.Response, *bufio.Reader) {
			t.Helper()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(resp.Body)
			if line, err := in.ReadString('\n'); line != "one\n" {
				t.Errorf("%q, %v", line, err)
			}
			return resp, in
		}
		leaving, leave := context.WithCancel(t.Context())
		gone, _ := open(leaving)
		a, inA := open(t.Context())
		b, inB := open(t.Context())
		leave()
		gone.Body.Close()
		if err := <-c.ended; err == nil {
			t.Error("the context of a client that has gone did not end")
		}
		close(c.proceed)
		for resp, in := range map[*http.Response]*bufio.Reader{a: inA, b: inB} {
			if rest, err := io.ReadAll(in); string(rest) != "two\n" || err != nil {
				t.Errorf("%q, %v", rest, err)
			}
			resp.Body.Close()
			if h := resp.Header; resp.StatusCode != 301 || h.Get("Content-Type") != "application/x-chunks" || h.Get("X-Own") != "kept" || h.Get("Location") != "/elsewhere" {
				t.Errorf("%s %v", resp.Status, h)
			}
		}
	})
}

// Passer answers with the stream of another deployment.
type Passer struct{ text helve.Stream[string, string] }

func (p *Passer) Pass(ctx context.Context, text string) iter.Seq2[string, error] {
	return p.text.Call(ctx, text)
}

var buildPasser = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("passer")
	h := helve.Deploy(app, "Teller", newTeller, helve.Options{})
	text := helve.StreamOf(h, (*Teller).Text)
	p := helve.Deploy(app, "Passer", func(context.Context) (*Passer, error) { return &Passer{text}, nil }, helve.Options{Uses: []helve.Target{h}})
	app.Ingress(helve.StreamOf(p, (*Passer).Pass))
	return app, nil
})

// TestStreamOfAHandleIsAResponseBody: the items of another deployment go on to the client one by one.
func TestStreamOfAHandleIsAResponseBody(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildPasser, func(t *testing.T, s *helve.System) {
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h, err := helve.HandleOf[*Teller](s, "passer", "Teller")
		if err != nil {
			t.Fatal(err)
		}
		r := fixture.PostText(t, t.Context(), url, "one WAIT two")
		defer r.Body.Close()
		first := make([]byte, 3)
		if _, err := io.ReadFull(r.Body, first); string(first) != "one" {
			t.Errorf("%q, %v", first, err)
		}
		if _, err := helve.ActionOf(h, (*Teller).Proceed).Call(t.Context(), helve.None{}); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(r.Body); string(rest) != "two" || err != nil || r.StatusCode != 200 {
			t.Errorf("%s %q, %v", r.Status, rest, err)
		}
	})
}

// TestStreamEndsAtItsDeadline: the items before it are kept, and the method's context ends.
func TestStreamEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		ended := make(chan struct{}, 2)
		l := fixture.StartLab(t, r, helve.Options{}, &fixture.Lab{OnDo: fixture.Double, OnSeq: func(ctx context.Context, n int) fixture.Seq {
			return func(yield func(int, error) bool) {
				if yield(n, nil) {
					<-ctx.Done()
				}
				ended <- struct{}{}
			}
		}})
		for way, read := range map[string]func(context.Context) fixture.Seq{
			"Call":   func(ctx context.Context) fixture.Seq { return l.Seq.Call(ctx, 7) },
			"Remote": func(ctx context.Context) fixture.Seq { return l.Seq.Remote(ctx, 7).All() },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			got, err := fixture.Collect(read(ctx))
			cancel()
			if !slices.Equal(got, []int{7}) || helve.ReasonOf(err) != helve.Deadline {
				t.Errorf("%s: %v, %v", way, got, err)
			}
			<-ended
		}
	})
}
