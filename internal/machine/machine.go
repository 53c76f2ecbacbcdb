// Package machine reads the numbers of the machine of a node: processors, memory, network and GPUs. On systems without /proc there are none but those of GPUs.
package machine

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Sample is the machine at one moment.
type Sample struct {
	At                time.Time
	Memory, Available uint64     // bytes: all, and those that programs can get
	Busy, Idle        uint64     // ticks of all processors since the start of the machine
	Received, Sent    uint64     // bytes of the network since then
	Load              [3]float64 // programs that ran or wanted to, on average in the last 1, 5 and 15 minutes
}

// Read reads the numbers. false: the system does not say them. A number that it does not say is 0.
func Read() (s Sample, ok bool) {
	s.At = time.Now()
	if all, err := os.ReadFile("/proc/meminfo"); err == nil {
		s.Memory, s.Available = memory(all)
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return s, false
	}
	s.Busy, s.Idle = processors(stat)
	if net, err := os.ReadFile("/proc/net/dev"); err == nil {
		s.Received, s.Sent = network(net)
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		fields := strings.Fields(string(load))
		for i, f := range fields[:min(len(s.Load), len(fields))] {
			s.Load[i], _ = strconv.ParseFloat(f, 64) //nolint:errcheck // 0 for a text that is no number
		}
	}
	return s, true
}

// Since gives the use of processors in percent, and bytes a second, between two samples. Without a sample before there are no bytes a second.
func (s Sample) Since(before Sample) (utilization, received, sent float64) {
	if all := float64(s.Busy+s.Idle) - float64(before.Busy+before.Idle); all > 0 {
		utilization = 100 * max(float64(s.Busy)-float64(before.Busy), 0) / all
	}
	if took := s.At.Sub(before.At).Seconds(); took > 0 && !before.At.IsZero() {
		received = max(float64(s.Received)-float64(before.Received), 0) / took
		sent = max(float64(s.Sent)-float64(before.Sent), 0) / took
	}
	return utilization, received, sent
}

// recentPeriod is the least time over which [Recent] says the use of processors, but for its first question.
const recentPeriod = 5 * time.Second

// Recent has the use of processors of the last 5 to 10 seconds. The zero Recent is ready, and safe for concurrent use.
type Recent struct {
	mu           sync.Mutex
	last, before Sample
}

// Now reads the numbers, and gives the use of all processors in percent of all: of the last seconds, or since the start of the machine for the first question. false: the system does not say them.
func (r *Recent) Now() (s Sample, percent float64, ok bool) {
	if s, ok = Read(); !ok {
		return s, 0, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.At.Sub(r.last.At) >= recentPeriod {
		r.before, r.last = r.last, s
	}
	percent, _, _ = s.Since(r.before)
	return s, percent, true
}

// memory reads /proc/meminfo: bytes.
func memory(file []byte) (total, available uint64) {
	for line := range strings.Lines(string(file)) {
		switch f := strings.Fields(line); {
		case len(f) < 2:
		case f[0] == "MemTotal:":
			total = 1024 * numberOf(f[1])
		case f[0] == "MemAvailable:":
			available = 1024 * numberOf(f[1])
		}
	}
	return total, min(available, total)
}

// processors reads the first line of /proc/stat, the ticks of all processors: user, nice, system, idle, iowait, irq, softirq, steal.
func processors(file []byte) (busy, idle uint64) {
	line, _, _ := bytes.Cut(file, []byte("\n"))
	fields := strings.Fields(string(line))
	for i, f := range fields {
		switch n := numberOf(f); {
		case i == 0 || i > 8: // the name; time of guests, which is in user too
		case i == 4 || i == 5:
			idle += n
		default:
			busy += n
		}
	}
	return busy, idle
}

// network reads /proc/net/dev: the bytes of all devices but the loopback.
func network(file []byte) (received, sent uint64) {
	for lines := bufio.NewScanner(bytes.NewReader(file)); lines.Scan(); {
		device, numbers, ok := strings.Cut(lines.Text(), ":")
		if f := strings.Fields(numbers); ok && strings.TrimSpace(device) != "lo" && len(f) > 8 {
			received += numberOf(f[0])
			sent += numberOf(f[8])
		}
	}
	return received, sent
}

// numberOf is 0 for a text that is no number.
func numberOf(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) //nolint:errcheck // see above
	return n
}
