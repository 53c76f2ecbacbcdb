// Package helvetest runs one test body against an application in every way that it can run: with its Go deployments in
// the node's process, and in a worker.
//
// A test package that uses it has
//
//	func TestMain(m *testing.M) { helvetest.Main(m, BuildHello) }
//
// because workers are the test executable itself, started again.
package helvetest

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/helve-serve/helve"
)

// Main takes over in workers; elsewhere it runs the tests and exits. builds are those that the tests of the package run.
func Main(m *testing.M, builds ...helve.Build) {
	helve.WorkerMain(builds...)
	os.Exit(m.Run())
}

// startTime and closeTime bound a test's system; both are far above what they take.
const (
	startTime = time.Minute
	closeTime = time.Minute
)

// Run runs body as a subtest per runner: "local" has Go deployments in the test's process, "process" in a worker.
// Python deployments have processes of their own in both. The system is closed after the body, and a call that is still
// running then, or an error of the close, fails the test.
func Run(t *testing.T, build helve.Build, body func(t *testing.T, s *helve.System)) {
	t.Helper()
	for _, runner := range []struct {
		name      string
		isolation helve.Isolation
	}{{"local", helve.InNode}, {"process", helve.Process}} {
		t.Run(runner.name, func(t *testing.T) {
			t.Parallel()
			body(t, Start(t, helve.Config{Isolation: runner.isolation}, build))
		})
	}
}

// Start runs a system for one test and closes it at the test's end. Its log goes to the test's.
func Start(t testing.TB, c helve.Config, build helve.Build) *helve.System {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	s, err := c.Run(ctx, build)
	if err != nil {
		t.Fatalf("the system does not start: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("the system does not close: %v", err)
		}
	})
	return s
}
