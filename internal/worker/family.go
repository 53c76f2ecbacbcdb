package worker

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The family of a worker is all its descendants. They end with the worker. Most of them are in its process group, and
// are killed with it. A descendant may have left the group (setsid), or may run on after its node was killed. So
// every worker has a variable in its environment, which is inherited, and by which the family is found in /proc. That
// needs no privilege and no cgroup. For example, a shell that a replica of worker hello-2 has started has
// HELVE_FAMILY=5e0c9d.hello-2. A process that was given an environment of its own is not found.
const familyEnv = "HELVE_FAMILY"

// familyTime is the longest time that the search repeats, to find processes that are just being started.
const familyTime = time.Second

// EndOwnFamily kills all descendants of this worker. It is for a worker that ends without a node.
func EndOwnFamily() {
	endFamily(os.Getenv(familyEnv), false)
}

// endFamily kills every process of a family except for this one. With prefix it kills every family whose name begins
// with name. A process that starts another meanwhile is found again.
func endFamily(name string, prefix bool) {
	if name == "" {
		return
	}
	for end := time.Now().Add(familyTime); killFamily(name, prefix) && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // a killed process is there for a moment
	}
}

func killFamily(name string, prefix bool) (found bool) {
	proc, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil || pid == os.Getpid() || !inFamily(pid, name, prefix) {
			continue
		}
		fd, err := pidfdOpen(pid)
		if err != nil {
			continue
		}
		if inFamily(pid, name, prefix) { // the descriptor is of the process that was looked at
			found = true
			const pidfdSendSignal = 424
			syscall.Syscall6(pidfdSendSignal, uintptr(fd), uintptr(syscall.SIGKILL), 0, 0, 0, 0) //nolint:errcheck // it may have ended
		}
		syscall.Close(fd) //nolint:errcheck // nothing was written
	}
	return found
}

// inFamily looks at the environment that a process was started with. A zombie has none.
func inFamily(pid int, name string, prefix bool) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if of, ok := strings.CutPrefix(string(v), familyEnv+"="); ok {
			return of == name || prefix && strings.HasPrefix(of, name)
		}
	}
	return false
}
