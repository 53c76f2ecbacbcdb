package node

import (
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// FuzzTold: whatever a worker tells, its outlet keeps within bounds, and what it says of itself is about the past.
func FuzzTold(f *testing.F) {
	f.Add("plain\nhalf\nstack Thread\nstack   in f\nunresponsive 2.5\nresponsive")
	f.Add("log ERROR text\nlog INFO+3 x\nlog mine x\n\nlog")
	f.Add("unresponsive NaN\nunresponsive -1e300\nunresponsive +Inf")
	x := newTold(f, helvetype.ReplicaRunning)
	for _, u := range x.w.app.deployments["D"].units {
		u.options.MaxUnresponsive = 300 * time.Hour
	}
	f.Fuzz(func(t *testing.T, text string) {
		x.log.Reset()
		x.node.mu.Lock()
		if s := x.w.stuck; s != nil && s.timer != nil {
			s.timer.Stop()
		}
		x.w.stuck = nil
		x.node.mu.Unlock()
		x.out.stacks = nil
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			x.out.told([]byte(line))
			if s := x.status(); s != nil && (s.Since.After(time.Now()) || time.Since(s.Since) > 400*24*time.Hour) {
				t.Errorf("%q: unresponsive since %s", line, s.Since)
			}
		}
		if len(x.out.stacks) > stacksMax {
			t.Errorf("%d bytes of stacks", len(x.out.stacks))
		}
	})
}

// TestStacksAreBounded: a worker cannot make the node keep more.
func TestStacksAreBounded(t *testing.T) {
	t.Parallel()
	x := newTold(t, helvetype.ReplicaRunning)
	line := "stack " + strings.Repeat("x", 4<<10)
	for range 1000 {
		x.lines(line)
	}
	x.lines("unresponsive 1e300")
	s := x.status()
	if s == nil || len(s.Stacks) > stacksMax || !strings.HasSuffix(s.Stacks, "x\n") {
		t.Errorf("%d bytes", len(s.Stacks))
	}
	if ago := time.Since(s.Since); ago < 0 || ago > 25*time.Hour {
		t.Errorf("since %s", s.Since)
	}
}
