package upgrade_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/coder/websocket"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Site repeats the data of clients while they send them: the body of a request, or the messages of a WebSocket.
type Site struct{}

func (*Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/socket" {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	}
	answer := http.NewResponseController(w)
	answer.EnableFullDuplex() //nolint:errcheck // HTTP/1.1 has it, and HTTP/2 needs no call
	part := make([]byte, 100)
	for {
		n, err := r.Body.Read(part)
		w.Write(part[:n]) //nolint:errcheck // the test reads it
		answer.Flush()    //nolint:errcheck // as above
		if err != nil {
			return
		}
	}
}

func buildSite(name string, isolation helve.Isolation) helve.Build {
	return fixture.Register(func() (*helve.App, error) {
		app := helve.NewApp(name)
		h := helve.Deploy(app, "Site", func(context.Context) (*Site, error) { return &Site{}, nil }, helve.Options{Isolation: isolation})
		app.Ingress(helve.HTTP(h))
		return app, nil
	})
}

var (
	buildSiteInNode   = buildSite("sitenode", helve.InNode)
	buildSiteInWorker = buildSite("siteworker", helve.Process)
)

// TestExchangesGoOn: a request whose body is under way when its node hands over, and a WebSocket, go on with the replica that they have, in the former node
// or in a worker. Another one comes to the next node.
func TestExchangesGoOn(t *testing.T) {
	t.Parallel()
	for _, of := range []struct {
		name, app string
		build     helve.Build
	}{{"node", "sitenode", buildSiteInNode}, {"worker", "siteworker", buildSiteInWorker}} {
		t.Run(of.name, func(t *testing.T) {
			t.Parallel()
			testExchangesGoOn(t, newWorld(t, of.app, of.build))
		})
	}
}

func testExchangesGoOn(t *testing.T, w *world) {
	former := w.start()
	body, socket := w.upload(), w.socket()
	body.echo("before")
	socket("before")
	w.succeed(former)
	body.echo("after")
	socket("after")
	late, other := w.upload(), w.socket()
	late.echo("late")
	other("late")
	body.end()
	late.end()
	over := make(chan error, 1)
	go func() { over <- former.Leave(t.Context()) }()
	socket("while the former node leaves")
	socket("")
	if err := <-over; err != nil {
		t.Error(err)
	}
	other("the former node has left")
	other("")
}

// upload is a request whose body the test writes.
type upload struct {
	w    *world
	body *io.PipeWriter
	back io.ReadCloser
}

func (w *world) upload() *upload {
	w.t.Helper()
	out, body := io.Pipe()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+w.listener.Addr().String(), out)
	if err != nil {
		w.t.Fatal(err)
	}
	go io.WriteString(body, "begin") //nolint:errcheck // the answer begins then
	a, err := w.client().http.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { a.Body.Close() })
	u := &upload{w, body, a.Body}
	u.read("begin")
	return u
}

func (u *upload) read(text string) {
	u.w.t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(u.back, got); string(got) != text || err != nil {
		u.w.t.Fatalf("%q, want %q: %v", got, text, err)
	}
}

func (u *upload) echo(text string) {
	u.w.t.Helper()
	if _, err := io.WriteString(u.body, text); err != nil {
		u.w.t.Fatal(err)
	}
	u.read(text)
}

func (u *upload) end() {
	u.w.t.Helper()
	u.body.Close()
	if rest, err := io.ReadAll(u.back); len(rest) > 0 || err != nil {
		u.w.t.Errorf("%q, %v", rest, err)
	}
}

// socket opens a WebSocket. The function sends a message on it and waits for its return; "" ends it.
func (w *world) socket() func(message string) {
	w.t.Helper()
	c, _, err := websocket.Dial(w.t.Context(), "ws://"+w.listener.Addr().String()+"/socket", nil) //nolint:bodyclose // it has none
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.CloseNow() })
	return func(message string) {
		w.t.Helper()
		if message == "" {
			c.Close(websocket.StatusNormalClosure, "") //nolint:errcheck // the other side may be first
			return
		}
		err := c.Write(w.t.Context(), websocket.MessageText, []byte(message))
		if err != nil {
			w.t.Fatal(err)
		}
		if _, got, err := c.Read(w.t.Context()); string(got) != message || err != nil {
			w.t.Fatalf("%q, want %q: %v", got, message, err)
		}
	}
}
