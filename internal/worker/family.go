package worker

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The family of a worker is what it has started, and what that has: they end with it. Most of them are in its process group, and are
// killed with that. A process may have left the group (setsid), or be left when the node was killed and could not do it. So every
// worker has a variable in its environment, which is inherited, and by which the family is found in /proc: it needs no privilege and
// no cgroup. For example, a shell that a replica of worker hello-2 has started has HELVE_FAMILY=5e0c9d.hello-2. A process that was given
// an environment of its own is not found.
const familyEnv = "HELVE_FAMILY"

// familyTime bounds the search for those that are just being started.
const familyTime = time.Second

// EndOwnFamily ends what this worker has started. It is for one that ends without a node.
func EndOwnFamily() {
	endFamily(os.Getenv(familyEnv), false)
}

// endFamily kills every process of a family but this one; of all whose names begin so, with prefix. One that starts another
// meanwhile is found again.
func endFamily(name string, prefix bool) {
	if name == "" {
		return
	}
	for end := time.Now().Add(familyTime); killFamily(name, prefix) && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // a process that is killed is there for a moment
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
		if inFamily(pid, name, prefix) { // what the descriptor holds is what was looked at
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
