package policy

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// TestLoad: the first policy that cannot be loaded is named with its option; an environment that is not there is no mistake of a policy.
func TestLoad(t *testing.T) {
	t.Parallel()
	there := func(context.Context) (Environment, error) {
		return Environment{Program: os.Args[0], Env: append(os.Environ(), play+"=1")}, nil
	}
	absent := func(context.Context) (Environment, error) { return Environment{}, errors.New("pip has failed") }
	of := func(function string, beside func(context.Context) (Environment, error)) Source {
		return Source{App: "shop", Deployment: "D", Of: Described{Function: function}, Key: function, Beside: beside}
	}
	together := of("m:Boom with hunter2", there)
	together.Together = []string{"D"}
	scrub := func(string) string { return "scrubbed" }
	for name, x := range map[string]struct {
		all  []Source
		want string
		set  SetSettings
	}{
		"none":           {},
		"one that loads": {all: []Source{of("m:", there)}},
		"no environment": {all: []Source{of("m:", absent)}},
		"one in Go":      {all: []Source{{App: "shop", Deployment: "D", Go: Func(func(context.Context, View) (Answer, error) { panic("it is not called") })}}},
		"the second": {
			all:  []Source{of("m:", there), of("m:Boom", there)},
			want: "deployment \"D\": autoscaling_config.policy: the policy m:Boom cannot be loaded: Boom\n\nFile \"f.py\", line 1",
		},
		"that of an application": {
			all: []Source{together}, set: SetSettings{Scrub: scrub},
			want: "autoscaling_policy: the policy m:Boom with hunter2 cannot be loaded: scrubbed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Load(t.Context(), x.all, x.set)
			if x.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || err.Error() != x.want {
				t.Fatal(err)
			}
			if e, ok := errors.AsType[*call.Error](err); !ok || e.Reason != helvetype.ReasonBadInput {
				t.Error(e)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Load(ctx, []Source{of("m:", there)}, SetSettings{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
