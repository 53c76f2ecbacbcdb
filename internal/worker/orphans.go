package worker

import (
	"bytes"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
)

// orphanTime is the time after its end at which a child counts as an orphan: its parent would have waited for it by
// then.
const orphanTime = time.Second

// ReapOrphans makes this process the parent of its workers' orphans, and reaps them. The process above, perhaps the
// first program of a container, may never do that. It is for a process that waits for all its own children from their
// start on. The result stop ends it.
func ReapOrphans() (stop func()) {
	if !kernel.SetSubreaper(true) {
		return func() {} // orphans go to the process above
	}
	ended, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		seen := map[int]bool{}
		for {
			if len(seen) == 0 {
				select {
				case <-ended:
				case <-done:
					return
				}
			}
			seen = reapOrphans(seen)
			again := time.NewTimer(orphanTime)
			select {
			case <-again.C:
			case <-done:
				again.Stop()
				return
			}
		}
	}()
	return func() { signal.Stop(ended); close(done) }
}

// noSubreaper lets orphans go to the process above until restore is called.
func noSubreaper() (restore func()) {
	if !kernel.IsSubreaper() {
		return func() {}
	}
	kernel.SetSubreaper(false)
	return func() { kernel.SetSubreaper(true) }
}

// reapOrphans reaps the children in before that have still not been waited for, and returns the children that have
// ended by now.
func reapOrphans(before map[int]bool) map[int]bool {
	now := map[int]bool{}
	for _, pid := range zombies() {
		if !before[pid] {
			now[pid] = true
			continue
		}
		var status syscall.WaitStatus
		syscall.Wait4(pid, &status, syscall.WNOHANG, nil) // another goroutine may have waited for it after all
	}
	return now
}

// zombies are the children of this process that have ended and were not waited for.
func zombies() (pids []int) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	me := []byte(strconv.Itoa(os.Getpid()))
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + n + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := cutLast(stat, []byte(") ")) // the third field is the state, the fourth the parent
		if f := bytes.Fields(rest); len(f) > 1 && string(f[0]) == "Z" && bytes.Equal(f[1], me) {
			pids = append(pids, pid)
		}
	}
	return pids
}
