package usage

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticks is the number of clock ticks a second in which Linux counts the time of processes, on all of its machines that Go runs on.
const ticks = 100

// Process has the use of memory and processors by a process.
type Process struct {
	Memory  uint64        // bytes of the machine's memory that it occupies now, with parts that it shares with others
	CPU     time.Duration // of all its threads, since it has started
	Started uint64        // tells it from another process that has its number later
}

// Read reads the numbers of a process. false: it has ended, or the system has no /proc.
func Read(pid int) (p Process, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	memory, err := os.ReadFile(dir + "/statm")
	if err != nil {
		return p, false
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, false
	}
	return parse(memory, stat, os.Getpagesize())
}

// The places of fields in /proc/PID/stat behind the name of the program, which may have spaces and brackets in it.
const (
	userTime   = 11
	systemTime = 12
	startTime  = 19
)

// parse reads the files statm and stat of a process.
func parse(memory, stat []byte, page int) (p Process, ok bool) {
	sizes := strings.Fields(string(memory))
	end := bytes.LastIndexByte(stat, ')')
	if len(sizes) < 2 || end < 0 {
		return p, false
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= startTime {
		return p, false
	}
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		ok = ok && err == nil
		return n
	}
	ok = true
	p.Memory = number(sizes[1]) * uint64(page)
	p.CPU = time.Duration(number(fields[userTime])+number(fields[systemTime])) * (time.Second / ticks)
	p.Started = number(fields[startTime])
	return p, ok
}
