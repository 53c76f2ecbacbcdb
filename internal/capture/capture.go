// Package capture takes profiles of this Go process with the profilers of its runtime: CPU time, memory, stacks of goroutines, waits. Package profile has the kinds, and reads
// the files. A node has one [Process] for the replicas in its process, and a Go worker has one.
package capture

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/helve-serve/helve/internal/profile"
)

// blockRate is the mean time of waiting, in nanoseconds, for which the runtime takes one sample: a wait of 1 ms is always counted, and one of 10 us in one of ten cases,
// with ten times its weight.
const blockRate = 100_000

// Process takes profiles of this process, one at a time: two profiles at once would each measure the cost of the other one. The zero value is ready. Its methods may be called
// from any goroutine.
type Process struct {
	mu   sync.Mutex
	busy string // describes the profile that is being taken; "" for none
	end  func() // ends that profile early
}

// BusyError says that another profile is being taken.
type BusyError struct {
	// Other describes that profile.
	Other string
}

func (e *BusyError) Error() string { return Busy(e.Other) }

// Busy is the text of a refusal, where other describes the profile that is being taken.
func Busy(other string) string {
	return "another profile of this process is being taken (" + other + "): try again when it has ended"
}

// begin notes a profile of the kind as being taken. The context ends with ctx, with the time of the profile, and with [Process.End].
func (p *Process) begin(ctx context.Context, kind profile.Kind, d time.Duration) (taking context.Context, done func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy != "" {
		return nil, nil, &BusyError{p.busy}
	}
	taking, cancel := context.WithTimeout(ctx, d)
	p.busy, p.end = fmt.Sprintf("%s, until %s", kind, time.Now().Add(d).Format(time.TimeOnly)), cancel
	return taking, func() {
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy, p.end = "", nil
	}, nil
}

// End ends the profile that is being taken, for example because its client has gone. [Process.Take] gives the samples so far.
func (p *Process) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil {
		p.end()
	}
}

// Take takes a profile, and gives it as a file of pprof. A profile of CPU time or of waits takes the time d, or ends with ctx; one of memory or stacks shows the present, and d has no part in it.
// A *[BusyError] says that another one is being taken. A CPU profile fails if another profiler has the CPU profiler of the runtime, for example user code.
func (p *Process) Take(ctx context.Context, kind profile.Kind, d time.Duration) ([]byte, error) {
	ctx, done, err := p.begin(ctx, kind, d)
	if err != nil {
		return nil, err
	}
	defer done()
	var file bytes.Buffer
	switch kind {
	case profile.CPU:
		if err := pprof.StartCPUProfile(&file); err != nil {
			return nil, &BusyError{strings.TrimSpace(err.Error())}
		}
		<-ctx.Done()
		pprof.StopCPUProfile()
	case profile.Heap:
		runtime.GC() // the runtime knows the memory that was in use at the last collection
		err = pprof.Lookup("heap").WriteTo(&file, 0)
	case profile.Stacks:
		err = pprof.Lookup("goroutine").WriteTo(&file, 0)
	case profile.Block:
		return waits(ctx, d)
	default:
		err = fmt.Errorf("there is no profile of the kind %q", kind)
	}
	return file.Bytes(), err
}

// waits is a profile of the waits in the time of ctx. The runtime counts from the start of the process on, and also has the waits of earlier profiles.
func waits(ctx context.Context, d time.Duration) ([]byte, error) {
	begun := time.Now()
	before, err := blocked()
	if err != nil {
		return nil, err
	}
	runtime.SetBlockProfileRate(blockRate)
	<-ctx.Done()
	runtime.SetBlockProfileRate(0)
	after, err := blocked()
	if err != nil {
		return nil, err
	}
	p := after.Without(before)
	p.Start, p.Duration = begun, min(d, time.Since(begun))
	return p.Encode(), nil
}

func blocked() (*profile.Profile, error) {
	var file bytes.Buffer
	if err := pprof.Lookup("block").WriteTo(&file, 0); err != nil {
		return nil, err
	}
	return profile.Decode(file.Bytes())
}
