package worker

import (
	"os"
	"strconv"
	"strings"
)

// memoryKills is the number of processes that the kernel of the machine has killed for lack of memory since it started, in all cgroups; -1 if it does not tell.
// For example, a container has a limit of memory, and the kernel kills a worker in it: the worker has no cgroup of its own that counts this, and the number is larger by one.
func memoryKills() int {
	b, err := os.ReadFile("/proc/vmstat") // counted since Linux 4.13
	if err != nil {
		return -1
	}
	return memoryKillsIn(string(b))
}

func memoryKillsIn(vmstat string) int {
	for line := range strings.Lines(vmstat) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			if kills, err := strconv.Atoi(n); err == nil && kills >= 0 {
				return kills
			}
		}
	}
	return -1
}

// killer says who has sent SIGKILL to a process, as far as the kernel tells: before and after are the numbers of memoryKills at its start and its end.
func killer(before, after int) string {
	switch {
	case before < 0 || after < 0:
		return "killed by SIGKILL, by another process or by the kernel for lack of memory"
	case after > before:
		return "killed by SIGKILL, probably by the kernel for lack of memory"
	}
	return "killed by SIGKILL, by another process and not for lack of memory"
}
