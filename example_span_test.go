package helve_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"strings"

	"github.com/helve-serve/helve"
)

// Folder writes words in small letters.
type Folder struct{}

func (Folder) Fold(_ context.Context, words []string) ([]string, error) {
	return strings.Fields(strings.ToLower(strings.Join(words, " "))), nil
}

// Sorter sorts words.
type Sorter struct {
	fold helve.Method[[]string, []string]
}

func (s *Sorter) Sort(ctx context.Context, words []string) ([]string, error) {
	inside, span := helve.Span(ctx, "fold", slog.Int("words", len(words)))
	folded, err := s.fold.Call(inside, words) // the call is below the span
	span.Fail(err)
	span.End()
	return slices.Sorted(slices.Values(folded)), err
}

func buildSorter() (*helve.App, error) {
	app := helve.NewApp("sorter")
	folder := helve.Deploy(app, "Folder", func(context.Context) (Folder, error) { return Folder{}, nil }, helve.Options{})
	sorter := helve.Deploy(app, "Sorter", func(context.Context) (*Sorter, error) {
		return &Sorter{helve.MethodOf(folder, Folder.Fold)}, nil
	}, helve.Options{Uses: []helve.Target{folder}})
	app.Ingress(helve.MethodOf(sorter, (*Sorter).Sort))
	return app, nil
}

// A span is a part of a method in the trace of the request.
func ExampleSpan() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildSorter)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[*Sorter](system, "sorter", "Sorter")
	if err != nil {
		log.Fatal(err)
	}
	words, err := helve.MethodOf(h, (*Sorter).Sort).Call(ctx, []string{"To", "be", "Or"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(words)
	// Output: [be or to]
}
