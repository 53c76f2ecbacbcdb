package main

import (
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

// The test executable is the worker, too: helvetest.Main runs it as one where a test needs a process.
func TestMain(m *testing.M) { helvetest.Main(m, Build) }

// TestGreet runs the application in every way in which it can run.
func TestGreet(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, Build, func(t *testing.T, sys *helve.System) {
		ingress, err := helve.HandleOf[*Ingress](sys, "hello", "Ingress")
		if err != nil {
			t.Fatal(err)
		}
		greeting, err := helve.MethodOf(ingress, (*Ingress).Greet).Call(t.Context(), "world")
		if greeting != "Hello world!" || err != nil {
			t.Errorf("%q, %v", greeting, err)
		}
	})
}
