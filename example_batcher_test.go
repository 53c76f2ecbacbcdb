package helve_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/helve-serve/helve"
)

// Encoder encodes texts, several at a time.
type Encoder struct {
	batcher *helve.Batcher[string, int]
}

func newEncoder(context.Context) (*Encoder, error) {
	b, err := helve.NewBatcher(encodeAll, helve.BatchOptions[string]{MaxSize: 2, Wait: new(time.Minute)})
	if err != nil {
		return nil, err
	}
	return &Encoder{b}, nil
}

// encodeAll stands for a model that is faster with many inputs than with one.
func encodeAll(_ context.Context, texts []string) ([]int, error) {
	fmt.Println("a batch of", len(texts))
	out := make([]int, len(texts))
	for i, text := range texts {
		out[i] = len(text)
	}
	return out, nil
}

// Encode is called with one text. The batcher joins it with the texts of other calls.
func (e *Encoder) Encode(ctx context.Context, text string) (int, error) {
	return e.batcher.Do(ctx, text)
}

func buildEncoder() (*helve.App, error) {
	app := helve.NewApp("encoder")
	h := helve.Deploy(app, "Encoder", newEncoder, helve.Options{MaxOngoingRequests: new(2)})
	app.Ingress(helve.MethodOf(h, (*Encoder).Encode))
	return app, nil
}

// A batcher runs one function for the inputs of several calls. The batch here is full with the second call.
func ExampleNewBatcher() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildEncoder)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[*Encoder](system, "encoder", "Encoder")
	if err != nil {
		log.Fatal(err)
	}
	encode := helve.MethodOf(h, (*Encoder).Encode)

	fmt.Println(helve.All(ctx, encode.Remote(ctx, "one"), encode.Remote(ctx, "three")))
	// Output:
	// a batch of 2
	// [3 5] <nil>
}
