package worker

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/helve-serve/helve/internal/kernel"
)

// guardEnv has the families that a process guards: see guard. With guardStart the process only starts the guard.
const (
	guardEnv   = "HELVE_GUARD"
	guardStart = "HELVE_GUARD_START"
)

// A guard is a process of this executable. It becomes a guard before other code of the program runs, because main may
// do something before it calls Helve, and so may the tests.
func init() {
	name := os.Getenv(guardEnv)
	switch {
	case name == "":
		return
	case os.Getenv(guardStart) != "":
		cmd := guardCommand(name, os.Stdin, os.NewFile(3, "ended"))
		if err := cmd.Start(); err != nil {
			os.Exit(1)
		}
	default:
		guard(name)
	}
	os.Exit(0)
}

// guardCommand is this executable as a guard. The pipe in ends with the node, and the pipe out ends with the guard.
func guardCommand(name string, in, out *os.File) *exec.Cmd {
	return &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{"helve-guard"}, Stdin: in, ExtraFiles: []*os.File{out}, Dir: "/",
		Env:         []string{guardEnv + "=" + name, "GOMAXPROCS=1", "GOGC=off"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
}

// GuardCommand is this executable as the guard of families whose names begin with a prefix, for a process that starts it as its own child: see
// [Spawner.Guard]. The pipe in ends with that process, and the pipe out ends with the guard.
func GuardCommand(prefix string, in, out *os.File) *exec.Cmd { return guardCommand(prefix, in, out) }

// guard waits for the end of its node, and kills the families of the node's workers. The kernel kills the workers of
// a node that is killed (Pdeathsig), but not their descendants. For example, a node ends by SIGKILL while a replica
// runs ffmpeg: the kernel kills the replica's worker, and the guard kills ffmpeg.
func guard(name string) {
	kernel.NameProcess("helve-guard")
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP) // a service manager sends these to all processes of a service; the guard ends with its node
	io.Copy(io.Discard, os.Stdin)                                  //nolint:errcheck // its end is what counts
	endFamily(name, true)
}

// Guard starts the guard of the spawner's children. The guard is not a child of the node, because a node's children
// are its workers. Children that outlive this process need no guard: see [EndOwnFamily]. Guard must be called once,
// before the first Start.
func (s *Spawner) Guard() error {
	in, alive, err := os.Pipe()
	if err != nil {
		return err
	}
	ended, out, err := os.Pipe()
	if err != nil {
		in.Close()
		alive.Close()
		return err
	}
	cmd := guardCommand(s.family+".", in, out)
	cmd.Env = append(cmd.Env, guardStart+"=1")
	restore := noSubreaper()
	err = cmd.Start()
	in.Close()
	out.Close()
	if err != nil {
		restore()
		alive.Close()
		ended.Close()
		return err
	}
	s.guarded = make(chan struct{})
	go func() {
		defer close(s.guarded)
		cmd.Wait() //nolint:errcheck // a guard that did not start has ended
		restore()
	}()
	s.guard = func() {
		<-s.guarded
		alive.Close()
		io.Copy(io.Discard, ended) //nolint:errcheck // its end is what counts
		ended.Close()
	}
	return nil
}

// Guarded waits until the guard runs, which takes as long as the start of a process.
func (s *Spawner) Guarded() {
	if s.guarded != nil {
		<-s.guarded
	}
}
