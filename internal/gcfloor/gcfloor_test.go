package gcfloor

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
)

func TestPercent(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 800, 1 << 20: 800, 8 << 20: 300, 16 << 20: 100, 1 << 30: 100} {
		if got := percent(live); got != want {
			t.Errorf("%d bytes live: %d, want %d", live, got, want)
		}
	}
}

var kept [][]byte // live memory

// collections is the number of collections while n MB are allocated.
func collections(n int) uint32 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		b := make([]byte, 1<<20)
		b[0] = 1
		kept[0] = b
	}
	runtime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}

// TestSet runs in a process of its own, whose collector it sets.
func TestSet(t *testing.T) {
	t.Parallel()
	if os.Getenv("GCFLOOR_TEST") == "" {
		for env, want := range map[string]string{"": "few then many", "GOGC=100": "many then many"} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestSet$", "-test.v")
			cmd.Env = append(os.Environ(), "GCFLOOR_TEST=1", env)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%q: want %q, %v in\n%s", env, want, err, out)
			}
		}
		return
	}
	kept = make([][]byte, 1)
	Set()
	runtime.GC()
	few := collections(500)
	kept = [][]byte{nil, make([]byte, 64<<20)} // more live memory than the floor
	gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for metrics.Read(gogc); gogc[0].Value.Uint64() != 100; metrics.Read(gogc) { // the setting follows a collection
		runtime.GC()
		runtime.Gosched()
	}
	settled := collections(2000)
	word := func(n, of uint32) string {
		if n > of {
			return "many"
		}
		return "few"
	}
	t.Log(few, settled, debug.SetGCPercent(100), strconv.Quote(os.Getenv("GOGC")))
	t.Log(word(few, 50) + " then " + word(settled, 5)) // 500 MB: 16 with the floor, 170 without; 2,000 MB beside 64: 13 to 31
}
