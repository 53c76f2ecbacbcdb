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
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve"
)

// Main takes over in workers; elsewhere it runs the tests and exits. builds are those that the tests of the package run.
// If the tests pass, and a goroutine of Helve is left although every system was closed, that fails the run.
func Main(m *testing.M, builds ...helve.Build) {
	helve.WorkerMain(builds...)
	code := m.Run()
	if code == 0 {
		if leaked := leaks(leakTime); leaked != "" {
			fmt.Fprintf(os.Stderr, "goroutines are left after the tests:\n\n%s\n", leaked)
			code = 1
		}
	}
	os.Exit(code)
}

// leakTime is how long goroutines that are on their way out may take.
const leakTime = 5 * time.Second

// leaks gives the stacks of Helve's goroutines, when there still are some after a while.
func leaks(patience time.Duration) string {
	for end := time.Now().Add(patience); ; {
		buf := make([]byte, 4<<20)
		var left []string
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "helve-serve/helve/internal/") && !strings.Contains(stack, "helvetest.leaks") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return strings.Join(left, "\n\n")
		}
		runtime.Gosched()
	}
}

// startTime and closeTime bound a test's system; both are far above what they take.
const (
	startTime = time.Minute
	closeTime = time.Minute
)

// Run runs body as a subtest per runner: "local" has Go deployments in the test's process, "process" in a worker.
// Python deployments have processes of their own in both. The system is drained and closed after the body; an error of
// that fails the test.
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
