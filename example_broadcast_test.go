package helve_test

import (
	"context"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// Memo has a cache that can be emptied.
type Memo struct{ entries map[string]string }

// Reset empties the cache and returns the number of entries that it had.
func (m *Memo) Reset(context.Context, helve.None) (int, error) {
	n := len(m.entries)
	clear(m.entries)
	return n, nil
}

func buildMemo() (*helve.App, error) {
	app := helve.NewApp("memo")
	h := helve.Deploy(app, "Memo", func(context.Context) (*Memo, error) {
		return &Memo{entries: map[string]string{"a": "1", "b": "2"}}, nil
	}, helve.Options{NumReplicas: new(3)})
	app.Ingress(helve.MethodOf(h, (*Memo).Reset))
	return app, nil
}

// A broadcast calls the method on every replica and returns a result for each.
func ExampleMethod_Broadcast() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildMemo)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[*Memo](system, "memo", "Memo")
	if err != nil {
		log.Fatal(err)
	}
	reset := helve.MethodOf(h, (*Memo).Reset)

	results, err := reset.Broadcast(ctx, helve.None{}).Results(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		fmt.Println(r.Value, r.Err)
	}
	// Output:
	// 2 <nil>
	// 2 <nil>
	// 2 <nil>
}
