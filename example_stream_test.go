package helve_test

import (
	"context"
	"fmt"
	"iter"
	"log"
	"strings"

	"github.com/helve-serve/helve"
)

// Tokenizer streams the words of a text.
type Tokenizer struct{}

func (Tokenizer) Tokens(_ context.Context, text string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for word := range strings.FieldsSeq(text) {
			if !yield(word, nil) {
				return // the reader has left its loop
			}
		}
	}
}

func buildTokenizer() (*helve.App, error) {
	app := helve.NewApp("tokenizer")
	h := helve.Deploy(app, "Tokenizer", func(context.Context) (Tokenizer, error) { return Tokenizer{}, nil }, helve.Options{})
	app.Ingress(helve.StreamOf(h, Tokenizer.Tokens))
	return app, nil
}

// A method that streams returns an iter.Seq2. To leave the loop ends the method.
func ExampleStreamOf() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildTokenizer)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[Tokenizer](system, "tokenizer", "Tokenizer")
	if err != nil {
		log.Fatal(err)
	}
	tokens := helve.StreamOf(h, Tokenizer.Tokens)

	for word, err := range tokens.Call(ctx, "to be or not") {
		if err != nil {
			log.Fatal(err)
		}
		if word == "or" {
			break
		}
		fmt.Println(word)
	}
	// Output:
	// to
	// be
}
