//go:build faults

package durable_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// clockEnv names a file of eight bytes, the number of seconds that a node adds to its clock.
const clockEnv = "LEDGER_CLOCK"

// clockSource is a file of package time in a binary whose clock can be set. The runtime calls time.Now also where no system call is possible, so the file is mapped into memory.
const clockSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var clockOffset = mapOffset()

func mapOffset() *atomic.Int64 {
	path, _ := syscall.Getenv("` + clockEnv + `")
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return new(atomic.Int64)
	}
	defer syscall.Close(fd)
	at, _, e := syscall.Syscall6(syscall.SYS_MMAP, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED, uintptr(fd), 0)
	if e != 0 {
		return new(atomic.Int64)
	}
	return *(**atomic.Int64)(unsafe.Pointer(&at))
}

func offset() int64 {
	if clockOffset == nil { // the package is not initialised yet
		return 0
	}
	return clockOffset.Load()
}
`

// buildWithClock compiles the stock binary with another time.Now: the wall clock is that of the machine and an offset, and the monotonic clock goes on, as it does
// when an operator or NTP sets the clock. A namespace of the kernel cannot do it: it has offsets for the monotonic clocks alone.
func buildWithClock(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	pkg := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(pkg, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), now) != 1 {
		t.Fatal("time.Now has changed: the overlay does not fit this version of Go")
	}
	changed := strings.Replace(string(source), now, now+"\tsec += offset()\n", 1)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for name, text := range map[string]string{"time.go": changed, "offset.go": clockSource} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(pkg, name)] = path
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "helve")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	fixture.GoBuild(t, "-overlay", file, "-o", binary, "./cmd/helve")
	return binary
}

// TestClock sets the clock of keeper and node forward and back by an hour, while clients make calls. At each setting an application is deployed, a worker and a node are killed:
// no other call fails, and the keeper does not say that the node hangs.
func TestClock(t *testing.T) { //nolint:paralleltest // it sets a variable
	python(t)
	clock := filepath.Join(t.TempDir(), "clock")
	file, err := os.Create(clock)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	set := func(seconds int64) {
		if _, err := file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(seconds)), 0); err != nil {
			t.Fatal(err)
		}
	}
	set(0)
	t.Setenv(clockEnv, clock)
	e := newEpisode(t, buildWithClock(t), 1, time.Second, "--node-watchdog", "5s")
	for _, seconds := range []int64{0, 3600, 0, -3600, 3600} {
		before := e.node()
		set(seconds)
		e.disturb(fault{step: "change"})
		if now := e.node(); now != before {
			t.Errorf("the clock was set to %d s, and the node %d was replaced by %d\n%s", seconds, before, now, e.report())
		}
		e.disturb(fault{step: "deploy", victim: "worker"})
		e.disturb(fault{step: "serve", victim: "node"})
	}
	e.end()
}
