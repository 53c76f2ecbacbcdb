// Package attached_test: tests programs that are attached to a node of another process (helve.Connect). The node is the stock binary, and
// a second program is the test binary, started again.
package attached_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" && os.Getenv("HELVE_WORKER") == "" && os.Getenv("HELVE_DESCRIBE") == "" {
		if err := program(context.Background(), role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	fixture.Main(m)
}

// roleEnv names the part of a second program.
const roleEnv = "HELVE_TEST_PROGRAM"

// program is a second program, attached to the node of HELVE_NODE.
func program(ctx context.Context, role string) error {
	sys, err := helve.Connect(ctx, "")
	if err != nil {
		return err
	}
	switch role {
	case "deploy": // and end, with the connection left open
		return sys.Deploy(ctx, buildDesk)
	case "holder":
		return hold(ctx, sys)
	}
	return fmt.Errorf("no role %q", role)
}

// hold has running calls, a waiting call, a reserved slot and a waiting stream, until the program is killed.
func hold(ctx context.Context, sys *helve.System) error {
	h, err := helve.HandleOf[*Desk](sys, "desk", "Desk")
	if err != nil {
		return err
	}
	wait := helve.ActionOf(h, (*Desk).Wait)
	if _, err := helve.MethodOf(h, (*Desk).PID).Choose(ctx); err != nil {
		return err
	}
	for range 3 { // of three slots one is reserved, two calls run and one waits
		wait.Remote(ctx, "")
	}
	for v, err := range helve.StreamOf(h, (*Desk).Count).Remote(ctx, 3).All() { // the stream waits behind the calls
		_ = v
		return err
	}
	return nil
}
