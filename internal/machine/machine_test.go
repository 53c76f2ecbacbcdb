package machine

import (
	"testing"
	"time"
)

// TestMachine reads files of Linux.
func TestMachine(t *testing.T) {
	t.Parallel()
	if total, available := memory([]byte("MemTotal:  100 kB\nMemFree: 5 kB\nMemAvailable:  40 kB\n")); total != 102400 || available != 40960 {
		t.Error(total, available)
	}
	if busy, idle := processors([]byte("cpu  10 1 5 70 4 2 3 1 9 9\ncpu0 1 1 1 1\n")); busy != 22 || idle != 74 {
		t.Error(busy, idle)
	}
	if in, out := network([]byte("Inter-|\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 100 0 0 0 0 0 0 0 20 0 0\n  eth1: 1 0 0 0 0 0 0 0 2\n")); in != 101 || out != 22 {
		t.Error(in, out)
	}
	before := Sample{At: time.Unix(100, 0), Busy: 10, Idle: 10, Received: 100, Sent: 50}
	if u, in, out := (Sample{At: time.Unix(110, 0), Busy: 15, Idle: 25, Received: 300, Sent: 20}).Since(before); u != 25 || in != 20 || out != 0 {
		t.Error(u, in, out)
	}
}

// TestRead: the numbers of this machine.
func TestRead(t *testing.T) {
	t.Parallel()
	s, ok := Read()
	if !ok {
		t.Skip("this system has no /proc")
	}
	if s.Memory == 0 || s.Available > s.Memory || s.Busy == 0 || s.At.IsZero() {
		t.Errorf("%+v", s)
	}
}
