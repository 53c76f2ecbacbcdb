package deploy

import (
	"errors"
	"fmt"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

import ()

// TestPermanent: errors that no other attempt heals.
func TestPermanent(t *testing.T) {
	t.Parallel()
	of := func(typ, step string, reason helvetype.Reason) error {
		e := call.NewError(reason, "x")
		e.Type, e.Method = typ, step
		return fmt.Errorf("a start: %w", e)
	}
	for name, x := range map[string]struct {
		err  error
		want bool
	}{
		"any error of the import": {of("ValueError", "import", helvetype.ReasonUser), true},
		"a module in constructor": {of("ModuleNotFoundError", "", helvetype.ReasonUser), true},
		"with a module's name":    {of("_pickle.UnpicklingError", "", helvetype.ReasonUser), true},
		"out of time":             {of("TimeoutError", "", helvetype.ReasonDeadline), true},
		"an error of the user's":  {of("my.ValueError", "", helvetype.ReasonUser), false},
		"no error of a call":      {errors.New("exit status 1"), false},
	} {
		if got := Permanent(x.err); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
