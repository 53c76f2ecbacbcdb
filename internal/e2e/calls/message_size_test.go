package calls_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

type pySizes interface {
	Take(context.Context, []byte) (int, error)
	Make(context.Context, int) ([]byte, error)
	Items(context.Context, int) iter.Seq2[[]byte, error]
	Fail(context.Context, int) (int, error)
}

var buildSizes = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("sizes")
	last := helve.Deploy(app, "Last", func(context.Context) (*fixture.Sizes, error) { return &fixture.Sizes{}, nil }, helve.Options{})
	take := helve.MethodOf(last, (*fixture.Sizes).Take)
	first := helve.Deploy(app, "Sizes", func(context.Context) (*fixture.Sizes, error) { return &fixture.Sizes{Next: take}, nil }, helve.Options{Uses: []helve.Target{take}})
	helve.Python[pySizes](app, "Py", "testdata.sizes:Sizes", helve.Args{}, helve.Options{})
	app.Ingress(helve.MethodOf(first, (*fixture.Sizes).Make))
	return app, nil
})

// TestMaxBody: a value over the configured limit is an error that names both sizes, whichever way it goes, and everything
// goes on after it. Of an error that is too long the middle is left out.
func TestMaxBody(t *testing.T) {
	t.Parallel()
	const limit = 2 << 20
	process := helvetest.Process
	process.Config.MaxBody = limit
	helvetest.Run(t, buildSizes, func(t *testing.T, s *helve.System) {
		ctx := t.Context()
		for _, name := range []string{"Sizes", "Py"} {
			t.Run(name, func(t *testing.T) {
				h, err := helve.HandleOf[pySizes](s, "sizes", name)
				if err != nil {
					t.Fatal(err)
				}
				take, makes, fail := helve.MethodOf(h, pySizes.Take), helve.MethodOf(h, pySizes.Make), helve.MethodOf(h, pySizes.Fail)
				items := helve.StreamOf(h, pySizes.Items)
				for range 2 {
					if n, err := take.Call(ctx, make([]byte, limit-100)); n != limit-100 || err != nil {
						t.Errorf("%d, %v", n, err)
					}
					if b, err := makes.Call(ctx, limit-100); len(b) != limit-100 || err != nil {
						t.Errorf("%d, %v", len(b), err)
					}
					got, err := fixture.Collect(items.Call(ctx, limit-100))
					if len(got) != 2 || err != nil {
						t.Errorf("%d items, %v", len(got), err)
					}
					_, err = take.Call(ctx, make([]byte, limit))
					tooLarge(t, err, "the arguments are a value of 2097157 bytes")
					_, err = makes.Call(ctx, limit)
					tooLarge(t, err, "the result is a value of 2097157 bytes")
					got, err = fixture.Collect(items.Call(ctx, limit))
					tooLarge(t, err, "an item of the stream is a value of 2097162 bytes")
					if len(got) != 1 {
						t.Errorf("%d items", len(got))
					}
					_, err = fail.Call(ctx, 2*limit)
					if text := fmt.Sprint(err); helve.ReasonOf(err) != helve.User || len(text) > limit || !strings.Contains(text, "xxx\n... (4194304 ") {
						t.Errorf("the error of the method with %d bytes of text: %s, %.300s", len(text), helve.ReasonOf(err), text)
					}
				}
			})
		}
		h, err := helve.HandleOf[*fixture.Sizes](s, "sizes", "Sizes")
		if err != nil {
			t.Fatal(err)
		}
		pass := helve.MethodOf(h, (*fixture.Sizes).Pass)
		if n, err := pass.Call(ctx, limit-100); n != limit-100 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		_, err = pass.Call(ctx, limit)
		tooLarge(t, err, "the arguments are a value of 2097157 bytes")
	}, process)
}

func tooLarge(t *testing.T, err error, text string) {
	t.Helper()
	if helve.ReasonOf(err) != helve.TooLarge || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "at most 2097152 (max_body)") {
		if err != nil && len(err.Error()) > 300 {
			err = errors.New(err.Error()[:300])
		}
		t.Errorf("%v", err)
	}
}

func TestMaxBodyIsChecked(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, 1000, 1 << 33} {
		_, err := helve.Config{MaxBody: n}.Run(t.Context(), buildSizes)
		if err == nil || !strings.HasPrefix(err.Error(), "MaxBody: must be 1048576 (1 MiB) to 4294967295") {
			t.Error(err)
		}
	}
}
