package helvetest_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

func TestMain(m *testing.M) { helvetest.Main(m, build) }

// entered is told when a method of a Sleeper begins.
var entered = make(chan struct{}, 1)

// Sleeper has methods that never end.
type Sleeper struct{}

func (*Sleeper) Sleep(context.Context, helve.None) error { entered <- struct{}{}; select {} }
func (*Sleeper) Items(context.Context, helve.None) iter.Seq2[int, error] {
	return func(func(int, error) bool) { entered <- struct{}{}; select {} }
}
func (*Sleeper) Wait(ctx context.Context, _ helve.None) error { <-ctx.Done(); return ctx.Err() }

// build is an application whose end does not wait for the methods, which never end.
func build() (*helve.App, error) {
	return sleepers(helve.Options{GracefulShutdownTimeout: new(time.Millisecond)})
}

// buildPatient is an application whose end waits for a method that is on its way out.
func buildPatient() (*helve.App, error) { return sleepers(helve.Options{}) }

func sleepers(o helve.Options) (*helve.App, error) {
	app := helve.NewApp("sleepers")
	h := helve.Deploy(app, "Sleeper", func(context.Context) (*Sleeper, error) { return &Sleeper{}, nil }, o)
	app.Ingress(helve.ActionOf(h, (*Sleeper).Sleep))
	return app, nil
}

// leaky has the ways to leave a goroutine behind, each with the text of the report.
var leaky = map[string]struct {
	leak func(t *testing.T, ctx context.Context)
	want string // "" if no goroutine is left
}{
	"nothing": {func(t *testing.T, ctx context.Context) {
		h := sleeper(t, helvetest.Start(t, helve.Config{}, buildPatient)) // whose Close fails if a call still runs when its time is over
		r := helve.ActionOf(h, (*Sleeper).Wait).Remote(ctx, helve.None{})
		r.Cancel()
	}, ""},
	"Remote": {func(t *testing.T, ctx context.Context) {
		own(t, func(h helve.Handle[*Sleeper]) { helve.ActionOf(h, (*Sleeper).Sleep).Remote(ctx, helve.None{}) })
	}, "(*Sleeper).Sleep"},
	"Call": {func(t *testing.T, ctx context.Context) {
		own(t, func(h helve.Handle[*Sleeper]) { go helve.ActionOf(h, (*Sleeper).Sleep).Call(ctx, helve.None{}) }) //nolint:errcheck // it never ends
	}, "(*Sleeper).Sleep"},
	"Broadcast": {func(t *testing.T, ctx context.Context) {
		own(t, func(h helve.Handle[*Sleeper]) { helve.ActionOf(h, (*Sleeper).Sleep).Broadcast(ctx, helve.None{}) })
	}, "(*Sleeper).Sleep"},
	"Stream": {func(t *testing.T, ctx context.Context) {
		own(t, func(h helve.Handle[*Sleeper]) { helve.StreamOf(h, (*Sleeper).Items).Remote(ctx, helve.None{}) })
	}, "(*Sleeper).Items"},
	"fake": {func(t *testing.T, ctx context.Context) {
		remoteForEver(ctx)
	}, "MethodFunc"},
	"system": {func(t *testing.T, ctx context.Context) {
		if _, err := helve.Run(ctx, build); err != nil {
			t.Error(err)
		}
	}, "controller.(*Controller).loop"},
	"named": {func(t *testing.T, ctx context.Context) {
		helvetest.Start(t, helve.Config{}, build)
		remoteForEver(ctx)
	}, "left behind by TestLeaky:"},
}

// remoteForEver returns when the method runs, which never ends.
func remoteForEver(ctx context.Context) {
	begun := make(chan struct{})
	helve.MethodFunc(func(context.Context, int) (int, error) { close(begun); select {} }).Remote(ctx, 1)
	<-begun
}

// own runs f with a system that it closes, although goroutines run on.
func own(t *testing.T, f func(helve.Handle[*Sleeper])) {
	t.Helper()
	sys, err := helve.Run(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	f(sleeper(t, sys))
	<-entered
	sys.Close(context.Background()) //nolint:errcheck // it says that a call runs on
}

func sleeper(t *testing.T, sys *helve.System) helve.Handle[*Sleeper] {
	t.Helper()
	h, err := helve.HandleOf[*Sleeper](sys, "sleepers", "Sleeper")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

const leakyEnv = "HELVETEST_LEAKY"

// TestLeaky is run by TestLeaks in processes of its own.
func TestLeaky(t *testing.T) { //nolint:paralleltest // alone
	if how := os.Getenv(leakyEnv); how != "" {
		leaky[how].leak(t, context.Background())
	} else {
		t.Skip("for TestLeaks")
	}
}

// TestLeaks: a package whose tests pass fails if one of them leaves a goroutine of Helve behind, or in Helve.
func TestLeaks(t *testing.T) {
	t.Parallel()
	for how, l := range leaky {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestLeaky$")
			cmd.Env = append(os.Environ(), leakyEnv+"="+how)
			out, err := cmd.CombinedOutput()
			exit, failed := errors.AsType[*exec.ExitError](err)
			switch {
			case l.want == "" && err != nil:
				t.Errorf("%v\n%s", err, out)
			case l.want != "" && (!failed || exit.ExitCode() != 1 || !strings.Contains(string(out), "PASS") || !strings.Contains(string(out), l.want)):
				t.Errorf("%v, want %q in:\n%s", err, l.want, out)
			}
		})
	}
}
