// Package kernel has the calls of the Linux kernel that package syscall lacks or has for Linux alone: memory without a file, limits and ends of other
// processes, the user at the other end of a socket.
//
// A program with deployments in its own process needs none of them, so such a program runs on other systems too, for development. There the calls for worker
// processes are errors, and [Workers] is the error that a user sees. For example, on macOS `go run ./examples/hello` serves, and
// `go run ./examples/hello run --isolation process` ends with that error before anything starts.
package kernel

import (
	"fmt"
	"runtime"
)

// unsupported is the error of a call that this system does not have.
func unsupported(call string) error {
	return fmt.Errorf("%s: %s does not have this call of Linux", call, runtime.GOOS)
}
