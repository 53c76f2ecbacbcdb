package ingress_test

import (
	"context"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Announcer streams events of every kind.
type Announcer struct{}

func (*Announcer) Events(_ context.Context, name string) iter.Seq2[helve.Event, error] {
	return func(yield func(helve.Event, error) bool) {
		for _, e := range []helve.Event{
			{ID: "1", Event: "token", Data: "hello\n" + name, Retry: 2 * time.Second}, {Data: Word{name}}, {Data: []byte{0, 1}}, {ID: "2"},
		} {
			if !yield(e, nil) {
				return
			}
		}
		if name == "FAIL" {
			yield(helve.Event{}, helve.Public(helve.NotFound, "no such name"))
		}
	}
}

var buildAnnouncer = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("announcer")
	h := helve.Deploy(app, "Announcer", func(context.Context) (*Announcer, error) { return &Announcer{}, nil }, helve.Options{})
	app.Ingress(helve.StreamOf(h, (*Announcer).Events))
	return app, nil
})

// events gets a page of events, as an EventSource does, until its end.
func events(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		t.Errorf("%s %v %v", r.Status, r.Header, err)
	}
	return string(body)
}

// TestServerSentEvents: the events of a Go stream are the same wherever its replica runs.
func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildAnnouncer, func(t *testing.T, s *helve.System) {
		url, _, err := s.Serve("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		const want = "id: 1\nevent: token\nretry: 2000\ndata: hello\ndata: you\n\ndata: {\"word\":\"you\"}\n\ndata: AAE=\n\nid: 2\n\n"
		if got := events(t, url+"?input=you"); got != want+"event: end\ndata:\n\n" {
			t.Errorf("%q", got)
		}
		if got := events(t, url+"?input=FAIL"); !strings.Contains(got, `event: error`+"\n"+`data: {"code":"NotFound","reason":"user","message":"no such name"`) || strings.Contains(got, "event: end") {
			t.Errorf("%q", got)
		}
		r := fixture.PostText(t, t.Context(), url, "you")
		defer r.Body.Close()
		lines := `{"id":"1","event":"token","retry":2000,"data":"hello\nyou"}` + "\n" + `{"data":{"word":"you"}}` + "\n" + `{"data":"AAE="}` + "\n" + `{"id":"2"}` + "\n"
		if got, err := io.ReadAll(r.Body); string(got) != lines || err != nil {
			t.Errorf("a client that asks for no events got %q, %v", got, err)
		}
	})
}

// TestServerSentEventsOfPython: items of every kind, and helve.Event, of a generator.
func TestServerSentEventsOfPython(t *testing.T) {
	t.Parallel()
	s := helvetest.Start(t, helve.Config{}, func() (*helve.App, error) {
		app := helve.NewApp("shout")
		h := helve.Python[pyShouter](app, "Shouter", "testdata.shouter:Shouter", helve.Args{}, helve.Options{})
		app.Ingress(helve.StreamOf(h, pyShouter.Shout))
		return app, nil
	})
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const want = "data: ONE\n\ndata: {\"a\":1}\n\nid: 5\nevent: token\nretry: 1500\ndata: {\"b\":[1]}\n\n"
	if got := events(t, url+"?input=one+map+event"); got != want+"event: end\ndata:\n\n" {
		t.Errorf("%q", got)
	}
	if got := events(t, url+"?input=one+fail"); !strings.HasPrefix(got, "data: ONE\n\nevent: error\ndata: {\"code\":\"Unknown\"") || strings.Contains(got, "secret") {
		t.Errorf("%q", got)
	}
}
