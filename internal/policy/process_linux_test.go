package policy

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/helve-serve/helve/internal/spec"
)

func init() {
	if os.Getenv(play) != "" {
		runtime.LockOSThread() // the main thread alone has the signal that its process gets at the end of its parent
	}
	behaviours["limits"] = func(q question, answers io.Writer) {
		const getDeathSignal = 2
		var memory, files syscall.Rlimit
		var death int32
		syscall.Syscall(syscall.SYS_PRCTL, getDeathSignal, uintptr(unsafe.Pointer(&death)), 0) //nolint:errcheck // the signal is 0 then
		syscall.Getrlimit(syscall.RLIMIT_DATA, &memory)                                        //nolint:errcheck // as above
		syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)                                       //nolint:errcheck // as above
		fmt.Fprintf(answers, `{"id":%d,"replicas":{"D":1},"states":{"D":[%d,%d,%d]}}`+"\n", q.ID, memory.Max, files.Max, death)
	}
}

// TestProcessIsBounded: the process has the limits of a replica's, and ends with the node, also if the node is killed.
func TestProcessIsBounded(t *testing.T) {
	t.Parallel()
	p := process(t, ProcessSettings{Open: func(context.Context) (Environment, error) {
		return Environment{Program: os.Args[0], Env: append(os.Environ(), play+"=1"), Limits: spec.Limits{Memory: 1 << 40, OpenFiles: 123}}, nil
	}})
	got, err := ask(p, "limits").Ask(t.Context(), []View{{Deployment: "D"}})
	if want := fmt.Sprintf("[%d,123,%d]", 1<<40, syscall.SIGKILL); err != nil || string(got["D"].State) != want {
		t.Errorf("%s, %v, want %s", got["D"].State, err, want)
	}
}
