package composition_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Echo broadcasts to its own deployment while it runs as a broadcast, or asks another to.
type Echo struct{ by helve.Method[string, string] }

func (e *Echo) Ring(ctx context.Context, how string) (string, error) {
	switch how {
	case "inside":
		return ring(ctx, "once")
	case "by call":
		return e.by.Call(ctx, "once")
	case "by remote":
		return e.by.Remote(ctx, "once").Result(ctx)
	case "own slot": // a broadcast holds none
		h, err := helve.HandleFrom[*Echo](ctx, "Echo")
		if err != nil {
			return "", err
		}
		return helve.MethodOf(h, (*Echo).Ring).Call(ctx, "once")
	}
	return "rung", nil
}

// ring is the reason for which a broadcast from ctx has failed.
func ring(ctx context.Context, how string) (string, error) {
	h, err := helve.HandleFrom[*Echo](ctx, "Echo")
	if err != nil {
		return "", err
	}
	rs, err := helve.MethodOf(h, (*Echo).Ring).Broadcast(ctx, how).Results(ctx)
	if err == nil {
		return rs[0].Value, nil
	}
	for _, r := range rs { // a replica whose own has ended by now answers
		if r.Err != nil && (helve.ReasonOf(r.Err) != helve.Cycle || !strings.Contains(r.Err.Error(), "Echo.Ring -> ")) {
			return "", r.Err
		}
	}
	return "cycle", nil
}

type Bell struct{}

func (Bell) Pull(ctx context.Context, how string) (string, error) { return ring(ctx, how) }

var buildEcho = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("echo")
	bell := helve.Deploy(app, "Bell", func(context.Context) (Bell, error) { return Bell{}, nil }, helve.Options{})
	pull := helve.MethodOf(bell, Bell.Pull)
	h := helve.Deploy(app, "Echo", func(context.Context) (*Echo, error) { return &Echo{pull}, nil },
		helve.Options{NumReplicas: new(2), MaxOngoingRequests: new(1), Uses: []helve.Target{pull}})
	app.Ingress(helve.MethodOf(h, (*Echo).Ring))
	return app, nil
})

// TestBroadcastsThatWaitForThemselves: a broadcast inside of one to the same deployment fails with the cycle, or is named
// where a link may end before; the lanes are free afterwards.
func TestBroadcastsThatWaitForThemselves(t *testing.T) {
	t.Parallel()
	for _, r := range append(helvetest.All(), helvetest.Socket) {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			log := fixture.NewLog()
			r.Config.Logger = slog.New(log)
			s := helvetest.Start(t, r.Config, buildEcho)
			h, err := helve.HandleOf[*Echo](s, "echo", "Echo")
			if err != nil {
				t.Fatal(err)
			}
			m := helve.MethodOf(h, (*Echo).Ring)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for _, x := range []struct{ how, want string }{{"inside", "cycle"}, {"by call", "cycle"}, {"own slot", "rung"}, {"once", "rung"}} {
				rs, err := m.Broadcast(ctx, x.how).Results(ctx)
				if err != nil || len(rs) != 2 || rs[0].Value != x.want || rs[1].Value != x.want {
					t.Errorf("%s: %+v %v", x.how, rs, err)
				}
			}
			loose := m.Broadcast(ctx, "by remote")
			if said := log.Await(t, waitsForItself); !strings.Contains(said["cycle"], "Echo.Ring -> Bell.Pull -> Echo.Ring") {
				t.Errorf("%v", said)
			}
			loose.Cancel()
			if _, err := loose.Results(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			if rs, err := m.Broadcast(ctx, "once").Results(ctx); err != nil || len(rs) != 2 {
				t.Errorf("afterwards: %+v %v", rs, err)
			}
		})
	}
}

// Chooser holds its deployment's only slot and asks for another in each of the ways that wait for one.
type Chooser struct{}

func (Chooser) Pick(ctx context.Context, how string) (string, error) {
	h, err := helve.HandleFrom[Chooser](ctx, "Chooser")
	if err != nil {
		return "", err
	}
	m, s := helve.MethodOf(h, Chooser.Pick), helve.StreamOf(h, Chooser.Each)
	switch how {
	case "call":
		_, err = m.Call(ctx, "no")
	case "choose":
		_, err = m.Choose(ctx)
	case "stream":
		for _, e := range s.Call(ctx, "no") {
			err = e
		}
	case "remote":
		_, err = m.Remote(ctx, "no").Result(ctx)
	case "stream under way":
		for _, e := range s.Remote(ctx, "no").All() {
			err = e
		}
	default:
		return "picked", nil
	}
	return string(helve.ReasonOf(err)), nil
}

func (Chooser) Each(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("one", nil) }
}

var buildChooser = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("chooser")
	h := helve.Deploy(app, "Chooser", func(context.Context) (Chooser, error) { return Chooser{}, nil }, fixture.OneSlot())
	app.Ingress(helve.MethodOf(h, Chooser.Pick))
	return app, nil
})

// TestEveryWaitForASlotLooksForItsOwnCallers: however a call waits, for itself it waits in vain.
func TestEveryWaitForASlotLooksForItsOwnCallers(t *testing.T) {
	t.Parallel()
	for _, r := range append(helvetest.All(), helvetest.Socket) {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			for _, how := range []string{"call", "choose", "stream"} {
				s := helvetest.Start(t, r.Config, buildChooser)
				h, err := helve.HandleOf[Chooser](s, "chooser", "Chooser")
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if got, err := helve.MethodOf(h, Chooser.Pick).Call(ctx, how); got != "cycle" || err != nil {
					t.Errorf("%s: %q %v", how, got, err)
				}
				if got, err := helve.MethodOf(h, Chooser.Pick).Call(ctx, "once"); got != "picked" || err != nil {
					t.Errorf("after %s: %q %v", how, got, err)
				}
			}
			for _, how := range []string{"remote", "stream under way"} {
				log := fixture.NewLog()
				c := r.Config
				c.Logger = slog.New(log)
				s := helvetest.Start(t, c, buildChooser)
				h, err := helve.HandleOf[Chooser](s, "chooser", "Chooser")
				if err != nil {
					t.Fatal(err)
				}
				loose := helve.MethodOf(h, Chooser.Pick).Remote(t.Context(), how)
				if said := log.Await(t, waitsForItself); !strings.Contains(said["cycle"], "Chooser.Pick -> Chooser.") {
					t.Errorf("%s: %v", how, said)
				}
				loose.Cancel()
			}
		})
	}
}
