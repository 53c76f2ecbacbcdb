package durable_test

import (
	"context"
	"os"
	"sync"

	"github.com/helve-serve/helve"
)

// connect gives the call of the client in Go. It attaches to the node that HELVE_NODE names with its first call, and again when the attempt before has failed.
func connect(context.Context) func(ctx context.Context, id string) error {
	var mu sync.Mutex
	var method *helve.Method[string, string]
	attach := func(ctx context.Context) (helve.Method[string, string], error) {
		mu.Lock()
		defer mu.Unlock()
		if method != nil {
			return *method, nil
		}
		sys, err := helve.Connect(ctx, os.Getenv("HELVE_NODE"))
		if err != nil {
			return helve.Method[string, string]{}, err
		}
		h, err := helve.HandleOf[any](sys, "ledger", "Ledger")
		if err != nil {
			sys.Close(ctx)
			return helve.Method[string, string]{}, err
		}
		m := helve.MethodNamed[string, string](h, "note")
		method = &m
		return m, nil
	}
	return func(ctx context.Context, id string) error {
		m, err := attach(ctx)
		if err == nil {
			_, err = m.Call(ctx, id)
		}
		return err
	}
}

// goKind is the reason of a failed call.
func goKind(err error) string {
	if reason := helve.ReasonOf(err); reason != "" {
		return string(reason)
	}
	return "other"
}
