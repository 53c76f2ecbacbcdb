package worker

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"unsafe"

	"github.com/helve-serve/helve/internal/kernel"
)

// Limits are the limits of one child and its descendants; a field that is zero is no limit.
//
// Where cgroup v2 is delegated to this process, the cgroup limits memory and CPU. It counts the memory in use of all
// processes together. Elsewhere RLIMIT_DATA limits the memory of each process, and CPU time is not limited, because
// no rlimit bounds a share. RLIMIT_DATA was preferred to RLIMIT_AS, which counts memory that Go and Python only
// reserve. It counts private writable mappings, so Go's heap arenas of 64 MiB and the stacks of threads count in
// full. An allocation above it fails (MemoryError, Go's "out of memory") and kills no process. Open files are limited
// by RLIMIT_NOFILE in both cases.
type Limits struct {
	MemoryBytes int64
	CPUs        float64
	OpenFiles   int
}

func (l Limits) String() string {
	var parts []string
	if l.MemoryBytes > 0 {
		parts = append(parts, fmt.Sprintf("memory %d MiB", (l.MemoryBytes+1<<19)>>20))
	}
	if l.CPUs > 0 {
		parts = append(parts, fmt.Sprintf("%g CPUs", l.CPUs))
	}
	if l.OpenFiles > 0 {
		parts = append(parts, fmt.Sprintf("%d open files", l.OpenFiles))
	}
	return strings.Join(parts, ", ")
}

// Enforcement says how the limits of a child are enforced.
type Enforcement struct {
	Memory string // "cgroup", "RLIMIT_DATA", or "" for no limit
	CPUs   string // "cgroup", or "" for no limit
	Why    error  `json:"-"` // the reason why no cgroup was used, if one would have been
}

func (l Limits) enforcement(cgroup bool, why error) (e Enforcement) {
	if cgroup {
		if l.CPUs > 0 {
			e.CPUs = "cgroup"
		}
		if l.MemoryBytes > 0 {
			e.Memory = "cgroup"
		}
		return e
	}
	if l.MemoryBytes > 0 {
		e.Memory = "RLIMIT_DATA"
	}
	e.Why = why
	return e
}

type rlimit struct {
	resource int
	most     uint64
}

func (l Limits) rlimits(e Enforcement) []rlimit {
	var set []rlimit
	if l.OpenFiles > 0 {
		set = append(set, rlimit{syscall.RLIMIT_NOFILE, uint64(l.OpenFiles)})
	}
	if e.Memory == "RLIMIT_DATA" {
		set = append(set, rlimit{syscall.RLIMIT_DATA, uint64(l.MemoryBytes)})
	}
	return set
}

// restrict sets the limits of a child that was started with Ptrace, and lets it run. Such a child has stopped before
// its program's first instruction, so no code of it runs without limits: a Go program reads and raises RLIMIT_NOFILE
// as it starts. restrict must run on the thread that started the child.
func restrict(pid int, set []rlimit) error {
	if err := awaitStop(pid); err != nil {
		return err
	}
	err := prlimit(pid, set)
	return errors.Join(err, syscall.PtraceDetach(pid))
}

func prlimit(pid int, set []rlimit) error {
	for _, r := range set {
		if err := kernel.Limit(pid, r.resource, syscall.Rlimit{Cur: r.most, Max: r.most}); err != nil {
			return err
		}
	}
	return nil
}

// awaitStop waits for the stop of a child. It does not consume the child's state, which reap needs if the child was
// killed.
func awaitStop(pid int) error {
	const (
		byPID                     = 1
		stopped, exited, leaveBe  = 2, 4, 0x01000000
		codeExited, codeDumpedEnd = 1, 3
	)
	var info [16]int64 // siginfo_t is 128 bytes
	for {
		_, _, e := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(pid), uintptr(unsafe.Pointer(&info)),
			stopped|exited|leaveBe, 0, 0)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return fmt.Errorf("waitid: %w", e)
		}
		if code := int32(info[1]); code >= codeExited && code <= codeDumpedEnd { // si_signo and si_errno come before
			return errors.New("it ended as it started")
		}
		return nil
	}
}

// quota is the content of cpu.max. 100 ms is the kernel's usual period.
func quota(cpus float64) string {
	const period = 100_000
	return fmt.Sprintf("%d %d", int64(math.Ceil(cpus*period)), period)
}
