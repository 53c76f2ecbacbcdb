package lifecycle_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

// pyCared is testdata/cared.py.
type pyCared interface {
	Word(context.Context, helve.None) (string, error)
	PID(context.Context, helve.None) (int, error)
	FallSick(context.Context, helve.None) (int, error)
}

func buildPyCared(class string, o helve.Options) helve.Build {
	return func() (*helve.App, error) {
		app := helve.NewApp("pycared")
		if class == "Plain" {
			h := helve.Python[interface {
				PID(context.Context, helve.None) (int, error)
			}](app, "Cared", "testdata.cared:Plain", helve.Args{}, o)
			app.Ingress(helve.MethodNamed[helve.None, int](h, "PID"))
			return app, nil
		}
		h := helve.Python[pyCared](app, "Cared", "testdata.cared:"+class, helve.Args{}, o)
		app.Ingress(helve.MethodOf(h, pyCared.Word))
		return app, nil
	}
}

// TestPythonReplicaIsCaredFor: a Python class is given its user config at the start and again, and says whether it works.
// After a config was refused, the next replica starts with the config before it.
func TestPythonReplicaIsCaredFor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	sys := helvetest.Start(t, helve.Config{}, buildPyCared("Cared", helve.Options{
		UserConfig: map[string]string{"word": "first"}, HealthCheckPeriod: new(20 * time.Millisecond),
	}))
	h, err := helve.HandleOf[pyCared](sys, "pycared", "Cared")
	if err != nil {
		t.Fatal(err)
	}
	word, pid := helve.MethodOf(h, pyCared.Word), helve.MethodOf(h, pyCared.PID)
	says := func(want string) {
		t.Helper()
		if w, err := word.Call(ctx, helve.None{}); w != want || err != nil {
			t.Errorf("it says %q, %v; want %q", w, err, want)
		}
	}
	says("first")
	if err := sys.Reconfigure(ctx, "pycared", "Cared", map[string]string{"word": "second"}); err != nil {
		t.Error(err)
	}
	says("second")
	if err := sys.Reconfigure(ctx, "pycared", "Cared", map[string]string{"word": "bad"}); err == nil || !strings.Contains(err.Error(), "a bad word") {
		t.Errorf("%v", err)
	}
	says("second") // and so does the next one, below
	was, err := helve.MethodOf(h, pyCared.FallSick).Call(ctx, helve.None{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		is, err := pid.Call(ctx, helve.None{})
		if err != nil {
			t.Fatal(err)
		}
		if is != was {
			break
		}
	}
	says("second")
	if err := sys.Reconfigure(ctx, "pycared", "Cared", map[string]string{"word": "third"}); err != nil {
		t.Error(err)
	}
	says("third")
	exit := sys.Status().Applications["pycared"].Deployments["Cared"].LastExit
	if exit == nil || !strings.Contains(exit.Reason, "sick") {
		t.Errorf("the last exit is %+v", exit)
	}
}

// TestPythonUserConfigWithoutReconfigure: a user config for a class without reconfigure is an error of the start. The error
// of a start names the method that failed.
func TestPythonUserConfigWithoutReconfigure(t *testing.T) {
	t.Parallel()
	_, err := helve.Config{}.Run(t.Context(), buildPyCared("Plain", helve.Options{UserConfig: map[string]string{"word": "x"}}))
	if err == nil || !strings.Contains(err.Error(), "no method reconfigure") {
		t.Errorf("%v", err)
	}
	_, err = helve.Config{}.Run(t.Context(), buildPyCared("Cared", helve.Options{UserConfig: map[string]string{"word": "bad"}}))
	if err == nil || !strings.Contains(err.Error(), "pycared/Cared.reconfigure: a bad word") { // not the constructor
		t.Errorf("%v", err)
	}
	_, err = helve.Config{}.Run(t.Context(), buildPyCared("Sick", helve.Options{}))
	if err == nil || !strings.Contains(err.Error(), "pycared/Cared.check_health: sick") {
		t.Errorf("%v", err)
	}
}
