package telemetry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/helve-serve/helve/helvetype"
)

func replica(i int) helvetype.Object {
	return helvetype.Object{Kind: helvetype.KindReplica, App: "app", Deployment: "D", Replica: fmt.Sprintf("D#%03d", i)}
}

// TestEventsAgainstAModel compares the ring and the histories with a list of all events, after random emissions.
func TestEventsAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 14))
			var written []helvetype.Event
			e := NewEvents(func(ev helvetype.Event) { written = append(written, ev) })
			kinds := 1 + rnd.IntN(3*objectsMax)
			var all []helvetype.Event
			changed := map[helvetype.Object]uint64{} // the last event of each object
			for range rnd.IntN(3 * ringSize) {
				o := replica(rnd.IntN(kinds))
				ev := helvetype.Event{Object: o, From: "A", To: "B", Reason: fmt.Sprint(rnd.Uint64())}
				ev.ID = e.Emit(ev)
				all = append(all, ev)
				changed[o] = ev.ID
			}
			for i, ev := range all {
				if ev.ID != uint64(i)+1 || written[i].ID != ev.ID || written[i].Reason != ev.Reason {
					t.Fatalf("event %d has the id %d, and the file has %+v", i, ev.ID, written[i])
				}
			}
			kept := all[max(len(all)-ringSize, 0):]
			for range 20 {
				after, limit := rnd.Uint64N(uint64(len(all))+2), 1+rnd.IntN(ringSize+10)
				got, missed := e.Since(after, limit)
				if after > uint64(len(all)) {
					after = 0
				}
				want := kept[min(max(int(after)-(len(all)-len(kept)), 0), len(kept)):]
				wantMissed := max(len(all)-len(kept)-int(after), 0)
				want = want[:min(len(want), limit)]
				if !slices.EqualFunc(got, want, func(a, b helvetype.Event) bool { return a.ID == b.ID && a.Reason == b.Reason }) || int(missed) != wantMissed {
					t.Fatalf("Since(%d, %d) of %d: %d events and %d missed, want %d and %d", after, limit, len(all), len(got), missed, len(want), wantMissed)
				}
			}
			recent := slices.Sorted(maps.Values(changed))
			recent = recent[max(len(recent)-objectsMax, 0):]
			ids := map[helvetype.Object][]uint64{}
			for _, ev := range all {
				ids[ev.Object] = append(ids[ev.Object], ev.ID)
			}
			for o, want := range ids {
				if !slices.Contains(recent, changed[o]) {
					want = nil
				}
				want = want[max(len(want)-historySize, 0):]
				var got []uint64
				for _, ev := range e.History(o) {
					got = append(got, ev.ID)
				}
				// The history of an object begins anew when the object had been forgotten: it is the newest part of the expected one.
				if len(got) > len(want) || !slices.Equal(got, want[len(want)-len(got):]) || len(want) > 0 && len(got) == 0 {
					t.Fatalf("history of %s: %v, want %v", o, got, want)
				}
				for _, id := range got {
					if ev, ok := e.Find(id); !ok || ev.ID != id {
						t.Fatalf("event %d is in a history and is not found", id)
					}
				}
			}
			if len(e.objects) > objectsMax || e.recent.Len() != len(e.objects) || len(e.ring) > ringSize {
				t.Fatalf("%d objects, %d in order, %d events", len(e.objects), e.recent.Len(), len(e.ring))
			}
		})
	}
}

// TestEventsAreBounded: texts are cut to their limits, at whole characters.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	e := NewEvents(nil)
	inputs := map[string]string{}
	for i := range 100 {
		inputs[fmt.Sprintf("%03d%s", i, strings.Repeat("k", 100))] = strings.Repeat("ü", 1000)
	}
	id := e.Emit(helvetype.Event{Object: replica(1), Message: strings.Repeat("ü", messageMax), Inputs: inputs})
	ev, _ := e.Find(id)
	if len(ev.Message) > messageMax || !utf8.ValidString(ev.Message) || !strings.HasSuffix(ev.Message, "...") {
		t.Errorf("message of %d bytes, %q at its end", len(ev.Message), ev.Message[len(ev.Message)-10:])
	}
	if len(ev.Inputs) != inputsMax {
		t.Errorf("%d inputs", len(ev.Inputs))
	}
	for k, v := range ev.Inputs {
		if len(k) > 64 || len(v) > 256 || !utf8.ValidString(v) {
			t.Errorf("input %q of %d bytes", k, len(v))
		}
	}
}

// TestEmittersDoNotWait: four goroutines emit, and readers hold none of them up. A reader sees each event
// once, in order, or is told that it missed it.
func TestEmittersDoNotWait(t *testing.T) {
	t.Parallel()
	const emitters, each = 4, 1000
	e := NewEvents(nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var read sync.WaitGroup
	for range 2 {
		read.Go(func() {
			var after, seen, missed uint64
			for after < emitters*each {
				events, m, err := e.Next(ctx, after, 100)
				if err != nil {
					t.Error(err)
					return
				}
				missed += m
				after += m
				for _, ev := range events {
					if after++; ev.ID != after {
						t.Errorf("event %d, want %d", ev.ID, after)
						return
					}
					seen++
				}
			}
			if seen+missed != emitters*each {
				t.Errorf("%d seen and %d missed of %d", seen, missed, emitters*each)
			}
		})
	}
	var emit sync.WaitGroup
	for i := range emitters {
		emit.Go(func() {
			for range each {
				e.Emit(helvetype.Event{Object: replica(i)})
			}
		})
	}
	emit.Wait()
	read.Wait()
}

// TestNextWaits: it returns with the next event, and with the end of its context.
func TestNextWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := NewEvents(nil)
		e.Emit(helvetype.Event{Object: replica(1)})
		got := make(chan []helvetype.Event)
		for range 2 {
			go func() {
				events, _, _ := e.Next(t.Context(), 1, 10)
				got <- events
			}()
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		e.Emit(helvetype.Event{Object: replica(2)})
		for range 2 {
			if events := <-got; len(events) != 1 || events[0].ID != 2 || events[0].Time != time.Now() {
				t.Errorf("%+v", events)
			}
		}
		if events, _, _ := e.Next(t.Context(), 99, 10); len(events) != 2 { // an id of the node before
			t.Errorf("%+v", events)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the reader has gone")
		cancel(why)
		if _, _, err := e.Next(ctx, 2, 10); !errors.Is(err, why) {
			t.Error(err)
		}
	})
}
