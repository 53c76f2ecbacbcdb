// Package proc reads the kernel's numbers of a process and all its descendants, such as a node with its workers.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// TreePSS is the proportional set size of a process and everything below it, in MB.
func TreePSS(pid int) (float64, error) {
	return sumTree(pid, PSS)
}

// PSS is the proportional set size of one process, in MB.
func PSS(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no Pss in smaps_rollup of %d", pid)
}

// sumTree adds up a number of a process and of all its descendants. A process that ends meanwhile counts nothing.
func sumTree(pid int, f func(pid int) (float64, error)) (float64, error) {
	total, err := f(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	kids, err := Children(pid)
	for _, k := range kids {
		if err != nil {
			break
		}
		var v float64
		v, err = sumTree(k, f)
		total += v
	}
	return total, err
}

// Children are the processes that a process has started and that still exist. A process that is gone has none.
func Children(pid int) (all []int, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		kids, err := os.ReadFile(t)
		if err != nil {
			continue // a thread that ended
		}
		for _, k := range strings.Fields(string(kids)) {
			n, err := strconv.Atoi(k)
			if err != nil {
				return nil, err
			}
			all = append(all, n)
		}
	}
	return all, nil
}

// Descendants are the children of a process, their children, and so on. Parents stand before their children.
func Descendants(pid int) (all []int, err error) {
	kids, err := Children(pid)
	for _, k := range kids {
		if err != nil {
			break
		}
		var below []int
		below, err = Descendants(k)
		all = append(append(all, k), below...)
	}
	return all, err
}

// ticks is the unit of the times in /proc/PID/stat, the same on all of Linux.
const ticks = 100

// TreeCPU is the processor time that a process and everything below it have used.
func TreeCPU(pid int) (time.Duration, error) {
	total, err := sumTree(pid, func(pid int) (float64, error) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// The name, in brackets, may hold anything; user and system time are the 12th and 13th field behind it.
		f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(f) < 13 {
			return 0, fmt.Errorf("stat of %d has %d fields", pid, len(f))
		}
		user, err1 := strconv.ParseFloat(string(f[11]), 64)
		system, err2 := strconv.ParseFloat(string(f[12]), 64)
		return user + system, errors.Join(err1, err2)
	})
	return time.Duration(total * float64(time.Second) / ticks), err
}

// SelfCPU is the processor time that this process has used, as fine as the kernel counts it.
func SelfCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
