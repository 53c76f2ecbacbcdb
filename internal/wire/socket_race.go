//go:build race

package wire

import (
	"runtime"
	"unsafe"
)

// raceWrite and raceRead tell the race detector that what happened before a write on a socket happened before the read at its other end. Package syscall
// does this for its own calls, and raw system calls have no such order. For example, a test sets a variable, sends a call, and the reader of the other end
// uses the variable.
var raceOrder byte //nolint:gochecknoglobals // an address, as package syscall has one

func raceWrite() { runtime.RaceReleaseMerge(unsafe.Pointer(&raceOrder)) }
func raceRead()  { runtime.RaceAcquire(unsafe.Pointer(&raceOrder)) }
