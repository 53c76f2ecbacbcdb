package worker

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// guardEnv names the families that a process guards: see guard.
const guardEnv = "HELVE_GUARD"

// A guard is a process of this executable, which becomes one before anything else of the program has run: not its main, which may do
// something before it calls Helve, nor its tests.
func init() {
	if name := os.Getenv(guardEnv); name != "" {
		guard(name)
		os.Exit(0)
	}
}

// guard waits for the end of its node, however that comes, and ends what is left of the families of its workers: the kernel kills
// the workers of a node that is killed (Pdeathsig), and nobody what these had started. Its standard input is a pipe from the node,
// which ends with it.
func guard(name string) {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP) // for all processes of a service: its node ends it
	io.Copy(io.Discard, os.Stdin)                                  //nolint:errcheck // its end is what counts
	endFamily(name, true)
}

// Guard starts the guard of the spawner's children. Children that outlive this process need none: see [EndOwnFamily].
func (s *Spawner) Guard() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{"helve-guard"}, Stdin: r, Dir: "/",
		Env:         []string{guardEnv + "=" + s.family + ".", "GOMAXPROCS=1", "GOGC=off"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		return fmt.Errorf("the guard of the workers: %w", err)
	}
	s.guard = func() {
		w.Close()
		cmd.Wait() //nolint:errcheck // it says nothing
	}
	return nil
}
