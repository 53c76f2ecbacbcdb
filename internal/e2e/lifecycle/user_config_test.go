package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Picky refuses some user configs. In a worker it can end its process, also when it is given one.
type Picky struct{ word string }

func (p *Picky) Reconfigure(_ context.Context, word string) error {
	p.word = word
	switch word {
	case "bad":
		return errors.New("refused")
	case "deadly":
		os.Exit(3)
	}
	return nil
}

func (p *Picky) Do(_ context.Context, what string) (string, error) {
	if what == "die" {
		os.Exit(1)
	}
	return p.word, nil
}

var buildPicky = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("picky")
	h := helve.Deploy(app, "Picky", func(context.Context) (*Picky, error) { return &Picky{}, nil },
		helve.Options{UserConfig: "first", NumReplicas: new(2)})
	app.Ingress(helve.MethodOf(h, (*Picky).Do))
	return app, nil
})

// TestRefusedConfigsDoNotOutliveAWorker: a config that replicas refused, or that ended their process, is not the config with
// which their successors start.
func TestRefusedConfigsDoNotOutliveAWorker(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildPicky, func(t *testing.T, s *helve.System) {
		ctx := t.Context()
		h, err := helve.HandleOf[*Picky](s, "picky", "Picky")
		if err != nil {
			t.Fatal(err)
		}
		do := helve.MethodOf(h, (*Picky).Do)
		says := func(when, want string) {
			t.Helper()
			if got, err := do.Call(ctx, "x"); got != want || err != nil {
				t.Errorf("%s: %q, %v; want %q", when, got, err, want)
			}
		}
		says("at first", "first")
		if err := s.Reconfigure(ctx, "picky", "Picky", "second"); err != nil {
			t.Fatal(err)
		}
		err = s.Reconfigure(ctx, "picky", "Picky", "bad")
		if err == nil {
			t.Fatal("it was not refused")
		}
		fixture.WantText(t, err, "the user config was refused, the one before stays in use", "replica Picky#", "Reconfigure: refused")
		says("after a refusal", "second")
		if d := s.Status().Applications["picky"].Deployments["Picky"]; d.Status != "HEALTHY" {
			t.Errorf("%+v", d)
		}
		if _, err := do.Call(ctx, "die"); err == nil {
			t.Error("it lives")
		}
		says("after a crash", "second")
		if err := s.Reconfigure(ctx, "picky", "Picky", "deadly"); err == nil {
			t.Error("a config that ended the worker was taken")
		}
		says("after a config that ended the worker", "second")
	}, helvetest.Process)
}

// TestConfigThatDoesNotEncode changes nothing.
func TestConfigThatDoesNotEncode(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildPicky, func(t *testing.T, s *helve.System) {
		err := s.Reconfigure(t.Context(), "picky", "Picky", make(chan int))
		if err == nil {
			t.Fatal("it was taken")
		}
		fixture.WantText(t, err, "user_config")
		for name, ask := range map[string]func() error{
			`no deployment "Nope" in application "picky"; it has Picky`: func() error { return s.Reconfigure(t.Context(), "picky", "Nope", 1) },
			`no application "nope" is running; there is picky`:          func() error { return s.Reconfigure(t.Context(), "nope", "Nope", 1) },
		} {
			fixture.WantText(t, ask(), name)
		}
		h, err := helve.HandleOf[*Picky](s, "picky", "Picky")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := helve.MethodOf(h, (*Picky).Do).Call(t.Context(), "x"); got != "first" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}, helvetest.Local)
}

// Configured says what it was given.
type Configured struct {
	mu sync.Mutex
	at string
}

func (c *Configured) Config(context.Context, helve.None) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at, nil
}

func (c *Configured) Reconfigure(_ context.Context, at string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
	return nil
}

func TestReconfigureWhileAReplicaStarts(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		l := fixture.StartLab(t, r, helve.Options{}, &fixture.Lab{OnDo: fixture.Double})
		building, goOn, deployed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			deployed <- l.System.Deploy(t.Context(), func() (*helve.App, error) {
				a := helve.NewApp("configured")
				a.RoutePrefix("")
				h := helve.Deploy(a, "C", func(context.Context) (*Configured, error) {
					close(building)
					<-goOn
					return &Configured{}, nil
				}, helve.Options{UserConfig: "old"})
				a.Ingress(helve.MethodOf(h, (*Configured).Config))
				return a, nil
			})
		}()
		<-building
		if err := l.System.Reconfigure(t.Context(), "configured", "C", "new"); err != nil {
			t.Error(err)
		}
		close(goOn)
		if err := <-deployed; err != nil {
			t.Fatal(err)
		}
		h, err := l.System.Ingress("configured")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := helve.MethodNamed[helve.None, string](h, "").Call(t.Context(), helve.None{}); got != "new" || err != nil {
			t.Errorf("a replica that was starting has config %q, %v", got, err)
		}
	})
}
