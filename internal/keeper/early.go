package keeper

import (
	"fmt"
	"os"
)

// A process with the state of a keeper in its environment is a keeper from here on, and not what its program does otherwise. It is one so early for two
// reasons. The packages of HTTP, metrics and the command line are not initialised yet, and take no memory in it. And this is the main thread of the process,
// as long as packages are initialised: all children must be started on one thread that never ends, and the next program must be executed on it, because
// the kernel kills the children when their thread ends (Pdeathsig).
func init() {
	fd := os.Getenv(stateEnv)
	if fd == "" {
		return
	}
	os.Unsetenv(stateEnv) //nolint:errcheck // it has a name
	state, err := readState(fd)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	os.Exit(run(state))
}
