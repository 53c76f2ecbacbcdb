package lifecycle_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
)

// Stubborn has a method that ignores its context.
type Stubborn struct{ began, end chan struct{} }

func (s *Stubborn) Hang(context.Context, helve.None) error {
	close(s.began)
	<-s.end
	return nil
}

// TestCloseNamesWhatDoesNotEnd: a method that ignores its context holds a shutdown up for its deployment's time to finish
// and no longer. Until then the node answers that it is draining. The error names the deployment and the replica.
func TestCloseNamesWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	s := &Stubborn{make(chan struct{}), make(chan struct{})}
	sys, err := helve.Run(t.Context(), func() (*helve.App, error) {
		app := helve.NewApp("hang")
		h := helve.Deploy(app, "Stubborn", func(context.Context) (*Stubborn, error) { return s, nil },
			helve.Options{GracefulShutdownTimeout: new(time.Second)})
		app.Ingress(helve.ActionOf(h, (*Stubborn).Hang))
		return app, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	url, _, err := sys.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hung := make(chan struct{})
	go func() {
		defer close(hung)
		if r, err := http.Post(url, "", nil); err == nil { // the method is cut off
			r.Body.Close()
			t.Errorf("answered %s", r.Status)
		}
	}()
	<-s.began
	closed := make(chan error, 1)
	go func() { closed <- sys.Close(context.Background()) }()
	for drained := false; !drained; {
		r, err := http.Get(url + "/-/healthz")
		if err != nil { // the listener is closed
			break
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		drained = r.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(b), "drained")
	}
	err = <-closed
	if err == nil || !strings.Contains(err.Error(), "hang/Stubborn: 1 call still ran in replica Stubborn#") {
		t.Errorf("%v", err)
	}
	<-hung
	close(s.end)
}

// TestACloseThatIsCutShortSaysSo: the error of a close names the limit that ended the drain: the time of the deployment, or
// the context of Close.
func TestACloseThatIsCutShortSaysSo(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		grace time.Duration
		cut   error
	}{
		"when its time to finish was over (graceful_shutdown_timeout_s 0.001)": {time.Millisecond, nil},
		"when it was cut off (a second signal: terminated)":                    {time.Hour, errors.New("a second signal: terminated")},
	} {
		s := &Stubborn{make(chan struct{}), make(chan struct{})}
		var hang helve.Method[helve.None, helve.None]
		sys, err := helve.Run(t.Context(), func() (*helve.App, error) {
			app := helve.NewApp("hang")
			h := helve.Deploy(app, "Stubborn", func(context.Context) (*Stubborn, error) { return s, nil },
				helve.Options{GracefulShutdownTimeout: &c.grace})
			hang = helve.ActionOf(h, (*Stubborn).Hang)
			app.Ingress(hang)
			return app, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		hang.Remote(t.Context(), helve.None{})
		<-s.began
		ctx, cut := context.WithCancelCause(context.Background())
		if c.cut != nil {
			cut(c.cut)
		}
		if err := sys.Close(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		cut(nil)
		close(s.end)
	}
}
