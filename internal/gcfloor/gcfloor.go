// Package gcfloor keeps small heaps from being collected all the time.
//
// A node and most workers have a megabyte or two of live memory. By default the collector then runs each time that as
// much again was allocated, which is once for every second or third value of 1 MB. In the measurements that led to
// this package it took half of the processor time of such calls, and was the whole tail of the small calls beside
// them (p99 1.0 of grpc-go's with it, 0.6 without). Below the floor the collector does not run; above it, it runs as
// it always does. For example, with 2 MB of live memory the next collection begins at 32 MB instead of 4, and with
// 100 MB at 200 MB, as before.
//
// The floor is for Helve's own processes: nodes of the command line, and workers. A program that calls helve.Run
// keeps its own settings.
package gcfloor

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Floor is the heap size in bytes below which no collection begins. An idle process may hold this much more than it
// needs.
const Floor = 32 << 20

// Set sets the floor, unless the environment has a setting of its own (GOGC, GOMEMLIMIT). It may be called once.
func Set() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	t := &tuner{percent: 100, live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	t.adjust()
	t.watch()
}

// tuner sets the collector's percentage after each collection, so that the next one begins at twice the live memory,
// or at the floor.
type tuner struct {
	percent int
	live    []metrics.Sample
}

// watch runs at the end of every collection. It is the cleanup of an object without references, and makes the next
// such object.
func (t *tuner) watch() {
	type mark struct{ _ [16]byte }
	runtime.AddCleanup(&mark{}, func(t *tuner) {
		t.adjust()
		t.watch()
	}, t)
}

func (t *tuner) adjust() {
	metrics.Read(t.live)
	// A new setting stops the program for a moment, so small changes are skipped.
	if p := percent(t.live[0].Value.Uint64()); p > t.percent*5/4 || p < t.percent*4/5 {
		t.percent = p
		debug.SetGCPercent(p)
	}
}

// heapMinimum is the size in bytes below which the runtime does not collect at 100 percent. It is multiplied by the setting, too.
const heapMinimum = 4 << 20

// percent is the setting with which the next collection begins at the floor, or at twice the live memory if that is
// more. No setting is so large that the runtime's minimum is above the floor. For example, with 256 kB of live memory 12,700 percent
// would be 32 MB of them, but also 508 MB of the minimum, and a node would grow to that before its first collection.
func percent(live uint64) int {
	if live >= Floor/2 {
		return 100
	}
	return int(min((Floor-live)*100/max(live, 1), Floor/heapMinimum*100))
}
