//go:build race

package wire

import (
	"runtime"
	"unsafe"
)

// raceWrite and raceRead tell the race detector that a write on a socket comes before the read at its other end. Package syscall does this for its own
// calls, and a raw system call does not. For example, a test sets a variable, sends a call, and the reader of the other end
// uses the variable.
var raceOrder byte //nolint:gochecknoglobals // an address, as package syscall has one

func raceWrite() { runtime.RaceReleaseMerge(unsafe.Pointer(&raceOrder)) }
func raceRead()  { runtime.RaceAcquire(unsafe.Pointer(&raceOrder)) }
