package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/telemetry"
	"github.com/helve-serve/helve/internal/trace"
)

// keptSize is the bar of the memory of kept requests and events, in bytes.
const keptSize = 20e6

// Requests come in batches, so slowly that the recorder collects their records meanwhile: it does so every 100 ms.
const (
	batch     = 2000
	collected = 120 * time.Millisecond
)

// keptRow is by how much the heap of a node has grown when it keeps as many requests of each reason, records of calls and events as it ever does.
func (b *bench) keptRow() measurement {
	return measurement{name: "requests and events that are kept / 20 MB", bar: 1, exact: true, measure: func() (result, error) {
		before := heapBytes()
		r, events := trace.New(), telemetry.NewEvents(nil)
		place := &call.Place{App: "shop", Deployment: "Ranker", Method: "Rank", Prefix: ""}
		ctx, stop := context.WithCancel(b.ctx)
		defer stop()
		go r.Collect(ctx)
		const requests = 60_000 // more than fit
		begun := time.Now().Add(-requests * time.Second).UnixNano()
		for i := range requests {
			if i%batch == 0 {
				time.Sleep(collected)
			}
			rec := trace.Record{Request: call.NewID(), ID: uint64(i), Place: place, Replica: "Ranker#001", Kind: trace.HTTP, Status: 200, End: begun + int64(i)*int64(time.Second)}
			rec.Begin = rec.End - int64(time.Millisecond)
			switch i % 3 {
			case 0:
				rec.Status, rec.Reason, rec.More = 500, string(helvetype.ReasonUser), &trace.More{Message: "ValueError: no such model: " + fmt.Sprint(i)}
			case 1:
				rec.Begin = rec.End - int64(time.Minute)
			default:
				rec.Sampled = true
			}
			r.Record(rec)
		}
		for i := range requests {
			o := helvetype.Object{Kind: helvetype.KindReplica, App: "shop", Deployment: "Ranker", Replica: fmt.Sprintf("Ranker#%03x", i/30)}
			events.Emit(helvetype.Event{Object: o, From: "STARTING", To: "RUNNING", Reason: "ready", Message: "it takes the place of Ranker#" + fmt.Sprint(i), Time: time.Now()})
		}
		time.Sleep(collected)
		grown := heapBytes() - before
		runtime.KeepAlive(r)
		runtime.KeepAlive(events)
		return result{fmt.Sprintf("%.1f MB", grown/1e6), fmt.Sprintf("%.0f MB", keptSize/1e6), grown / keptSize}, nil
	}}
}
