// Package helvetest runs one test body against an application in every way that it can run: with its Go deployments in
// the node's process, there with every call encoded or on a goroutine of its own, and in a worker. Code that holds methods
// needs no application in its tests: helve.MethodFunc and helve.StreamFunc make fakes.
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
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/spec"
)

// Main takes over in workers; elsewhere it runs the tests and exits. The parameter builds has the build functions of
// the package's tests. After the tests, a goroutine of Helve that is left although every system was closed fails the
// run: for example, a method that runs on, a caller that waits for an answer, or a system that was not closed. The
// test is named if it used [Start] or [Run].
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

// startTime and closeTime bound the start and the end of a test's system; both are far above the usual times.
const (
	startTime = time.Minute
	closeTime = time.Minute
)

// Runner is one way to run an application.
type Runner struct {
	// Name is the name of the subtest.
	Name string
	// Config is the configuration of the system.
	Config helve.Config
}

// The runners.
var (
	// Local has Go deployments in the test's process.
	Local = Runner{"local", helve.Config{Isolation: helve.InNode}}
	// Stubborn is Local with every method on a goroutine of its own: a test fails if it relies on Call running on the
	// caller's goroutine.
	Stubborn = Runner{"stubborn", helve.Config{Isolation: helve.InNode, OutOfLine: true}}
	// Encoded is Local with arguments, results, items and errors encoded in MessagePack and decoded on their way. It
	// shows values that deployments share, values that do not encode, and errors that lose their identity.
	Encoded = Runner{"encoded", helve.Config{Isolation: helve.InNode, StrictCodec: "msgpack"}}
	// EncodedJSON is Encoded with JSON, the codec orjson.
	EncodedJSON = Runner{"encoded-json", helve.Config{Isolation: helve.InNode, StrictCodec: "orjson"}}
	// Socket is Process without a process: the worker is a goroutine of the test's process, and every call crosses a
	// socket pair. Build is called again for the worker, so deployments share the variables that Build's closures
	// capture with the test.
	Socket = Runner{"socket", helve.Config{Isolation: helve.Isolation(spec.Socket)}}
	// Pipe is Socket with pipes in memory, which do not keep the time of a testing/synctest bubble from going on.
	Pipe = Runner{"pipe", helve.Config{Isolation: helve.Isolation(spec.Pipe)}}
	// Attached is Local in a node to which the test is attached ([helve.Connect]): every call of the test crosses a socket, and System.Deploy
	// deploys this executable.
	Attached = Runner{"attached", helve.Config{Isolation: helve.Isolation(spec.Attached)}}
	// Process has Go deployments in a worker.
	Process = Runner{"process", helve.Config{Isolation: helve.Process}}
)

// All are all runners.
func All() []Runner { return []Runner{Local, Stubborn, Encoded, EncodedJSON, Process} }

// Here are the runners without processes, for tests whose deployments share variables with them. In a bubble of
// testing/synctest it takes [Pipe] for [Socket].
func Here() []Runner { return append(InNode(), Socket) }

// InNode are the runners without workers.
func InNode() []Runner { return []Runner{Local, Stubborn, Encoded, EncodedJSON} }

// Run runs body as a parallel subtest per runner; without any, per runner of [All]. Python deployments have processes of
// their own in each. The system is drained and closed after the body; an error of that fails the test.
func Run(t *testing.T, build helve.Build, body func(t *testing.T, s *helve.System), runners ...Runner) {
	t.Helper()
	if len(runners) == 0 {
		runners = All()
	}
	for _, r := range runners {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			body(t, Start(t, r.Config, build))
		})
	}
}

// Start runs a system for one test and closes it at the test's end. Its log goes to the test's.
func Start(t testing.TB, c helve.Config, build helve.Build) *helve.System {
	t.Helper()
	if os.Getenv("HELVE_WORKER") != "" { // a worker that runs tests instead of hosting replicas
		fmt.Fprintln(os.Stderr, "this test binary is also its workers' executable: TestMain must call helvetest.Main(m, Build)")
		os.Exit(1)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	label(t)
	attached := c.Isolation == Attached.Config.Isolation
	if attached {
		c.Isolation, c.Admin = helve.InNode, "private"
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
	if attached {
		return attach(t, s.Address())
	}
	return s
}

// attach attaches a test to a node until its end.
func attach(t testing.TB, address string) *helve.System {
	t.Helper()
	s, err := helve.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) }) //nolint:errcheck // it has none
	return s
}
