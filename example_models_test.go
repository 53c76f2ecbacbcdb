package helve_test

import (
	"context"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// Translator has a model for each language, and keeps at most two of them loaded.
type Translator struct{ models *helve.Models[string] }

func newTranslator(ctx context.Context) (*Translator, error) {
	m, err := helve.NewModels(ctx, loadLanguage, helve.ModelsOptions[string]{Max: 2})
	if err != nil {
		return nil, err
	}
	return &Translator{m}, nil
}

// loadLanguage stands for a load that takes seconds.
func loadLanguage(_ context.Context, id string) (string, error) {
	fmt.Println("load", id)
	return map[string]string{"de": "Guten Tag", "fr": "Bonjour"}[id], nil
}

func (t *Translator) Greet(ctx context.Context, name string) (string, error) {
	greeting, release, err := t.models.Get(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return greeting + " " + name, nil
}

func buildTranslator() (*helve.App, error) {
	app := helve.NewApp("translator")
	h := helve.Deploy(app, "Translator", newTranslator, helve.Options{})
	app.Ingress(helve.MethodOf(h, (*Translator).Greet))
	return app, nil
}

// A call names its model. The replica loads it once, and calls with that model go to replicas that have it.
func ExampleNewModels() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildTranslator)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[*Translator](system, "translator", "Translator")
	if err != nil {
		log.Fatal(err)
	}
	greet := helve.MethodOf(h, (*Translator).Greet)

	for _, language := range []string{"de", "fr", "de"} {
		fmt.Println(greet.With(helve.ModelID(language)).Call(ctx, "Ada"))
	}
	// Output:
	// load de
	// Guten Tag Ada <nil>
	// load fr
	// Bonjour Ada <nil>
	// Guten Tag Ada <nil>
}
