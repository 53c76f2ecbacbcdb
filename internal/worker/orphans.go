package worker

import (
	"bytes"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// orphanTime is how long a child must have ended for it to be nobody's: who has started one waits for it.
const orphanTime = time.Second

// ReapOrphans makes this process the parent of what its workers leave behind, and reaps it: the process above, perhaps a program that is the
// first of a container, may never do that. It is for a process whose own children are all waited for from their start on.
func ReapOrphans() (stop func()) {
	if !subreaper(1) {
		return func() {} // they go to the process above
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

// subreaper says whether this process gets the orphans among its descendants.
func subreaper(on uintptr) bool {
	const setChildSubreaper = 36
	_, _, e := syscall.Syscall(syscall.SYS_PRCTL, setChildSubreaper, on, 0)
	return e == 0
}

// noSubreaper lets orphans go to the process above until restore.
func noSubreaper() (restore func()) {
	const getChildSubreaper = 37
	var on int32
	if _, _, e := syscall.Syscall(syscall.SYS_PRCTL, getChildSubreaper, uintptr(unsafe.Pointer(&on)), 0); e != 0 || on == 0 {
		return func() {}
	}
	subreaper(0)
	return func() { subreaper(1) }
}

// reapOrphans reaps the children that had ended already the last time, and gives those that have by now.
func reapOrphans(before map[int]bool) map[int]bool {
	now := map[int]bool{}
	for _, pid := range zombies() {
		if !before[pid] {
			now[pid] = true
			continue
		}
		var status syscall.WaitStatus
		syscall.Wait4(pid, &status, syscall.WNOHANG, nil) //nolint:errcheck // somebody may have waited for it after all
	}
	return now
}

// zombies are the children of this process that have ended and that nobody has waited for.
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
