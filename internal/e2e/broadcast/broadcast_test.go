package broadcast_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestBroadcast: every replica executes a broadcast once, beside calls that hold all slots.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		var made atomic.Int64
		hold := make(fixture.Latch)
		labs := fixture.StartLabs(t, r, map[string]helve.Options{"Lab": {NumReplicas: new(3), MaxOngoingRequests: new(1)}}, func(string) *fixture.Lab {
			me, state := int(made.Add(1)), 0
			return &fixture.Lab{OnSeq: fixture.CountUp, OnDo: func(ctx context.Context, n int) (int, error) {
				switch n {
				case -1: // occupies the slot
					return 0, hold.Wait(ctx)
				case -2:
					if me == 2 {
						return 0, &fixture.Quota{Text: "second"}
					}
				default:
					state = n
				}
				return me*1000 + state, nil
			}}
		})
		l, ctx := labs["Lab"], t.Context()
		t.Run("full replicas", func(t *testing.T) { // a broadcast needs no slot
			var busy []*helve.Response[int]
			for range 3 {
				busy = append(busy, l.Do.Remote(ctx, -1))
			}
			entries, err := l.Do.Broadcast(ctx, 7).Results(ctx)
			if err != nil {
				t.Fatal(err)
			}
			ids, values := map[string]bool{}, map[int]bool{}
			for _, e := range entries {
				ids[e.Replica], values[e.Value] = true, true
				if e.Err != nil || e.Node == "" {
					t.Errorf("replica %s of node %q answered with error %v, want a node and no error", e.Replica, e.Node, e.Err)
				}
			}
			if len(ids) != 3 || !values[1007] || !values[2007] || !values[3007] {
				t.Errorf("%d replicas answered with %v, want 1007, 2007 and 3007 of three replicas", len(ids), values)
			}
			close(hold)
			if _, err := helve.All(ctx, busy...); err != nil {
				t.Errorf("the calls that held the slots: %v", err)
			}
		})
		t.Run("one replica fails", func(t *testing.T) {
			resp := l.Do.Broadcast(ctx, -2)
			for range 2 { // results can be read again
				entries, err := resp.Results(ctx)
				failed := 0
				for _, e := range entries {
					if e.Err != nil {
						failed++
						fixture.WantReason(t, e.Err, helve.User)
					} else if e.Value%1000 != 7 {
						t.Errorf("replica %s has %d from the broadcast before, want 7", e.Replica, e.Value%1000)
					}
				}
				if failed != 1 || len(entries) != 3 || err == nil {
					t.Errorf("%d of %d replicas failed, error %v, want 1 of 3 and its error", failed, len(entries), err)
				}
				if missed := resp.Missed(ctx); len(missed) != 0 {
					t.Errorf("the broadcast missed %v, want none", missed)
				}
			}
		})
		t.Run("method that streams", func(t *testing.T) {
			if _, err := helve.MethodNamed[int, int](l.Handle, "seq").Broadcast(ctx, 1).Results(ctx); err == nil {
				t.Error("a broadcast to a method that streams gave no error")
			}
		})
		t.Run("zero method", func(t *testing.T) {
			_, err := (helve.Method[int, int]{}).Broadcast(ctx, 1).Results(ctx)
			fixture.WantReason(t, err, helve.BadInput)
		})
	})
}

func TestBroadcastGivesWhatThereIsInTime(t *testing.T) {
	t.Parallel()
	fixture.EachCaller(t, func(t *testing.T, r helvetest.Runner) {
		var made atomic.Int64
		ended := make(chan error, 4)
		ran := make(chan int, 4)
		labs := fixture.StartLabs(t, r, map[string]helve.Options{"Lab": {NumReplicas: new(2)}}, func(string) *fixture.Lab {
			me := made.Add(1)
			return &fixture.Lab{OnDo: func(ctx context.Context, n int) (int, error) {
				ran <- n
				if me == 1 {
					<-ctx.Done()
					ended <- ctx.Err()
				}
				return n, ctx.Err()
			}}
		})
		l := labs["Lab"]
		resp := l.Do.Broadcast(t.Context(), 1)
		<-ran
		<-ran
		good := 0
		for good == 0 { // the answer of the second replica comes after its method has begun: a busy machine may take more than one look
			short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			entries, err := resp.Results(short)
			cancel()
			for _, e := range entries {
				if e.Err == nil && e.Value == 1 {
					good++
				} else {
					fixture.WantReason(t, e.Err, helve.Deadline)
				}
			}
			if good > 1 || len(entries) != 2 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%+v, %v", entries, err)
				break
			}
		}
		second := l.Do.Broadcast(t.Context(), 2) // waits in the control queue of the first replica
		<-ran
		second.Cancel()
		resp.Cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the method saw %v", err)
		}
		_, err := resp.Results(t.Context())
		fixture.WantReason(t, errors.Unwrap(joined(err)[0]), "")
		if helve.ReasonOf(joined(err)[0]) != helve.Cancelled {
			t.Errorf("%v", err)
		}
		select {
		case n := <-ran:
			t.Errorf("a call that was cancelled in the control queue ran: %d", n)
		default:
		}
	})
}

func joined(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // what Results documents
		return j.Unwrap()
	}
	return []error{err}
}

// TestBroadcastToWhatStops: a broadcast waits behind another one when the replicas stop. Its result has an error for each
// replica and names all of them as missed; the broadcast before it has its answers.
func TestBroadcastToWhatStops(t *testing.T) {
	t.Parallel()
	fixture.EachBubble(t, func(t *testing.T, r helvetest.Runner) {
		hold := make(fixture.Latch)
		l := fixture.StartLab(t, r, helve.Options{NumReplicas: new(2), GracefulShutdownTimeout: new(time.Minute)}, &fixture.Lab{
			OnDo: func(ctx context.Context, n int) (int, error) { return n, hold.Wait(ctx) }, OnSeq: fixture.CountUp,
		})
		first := l.Do.Broadcast(t.Context(), 1)
		synctest.Wait()
		second := l.Do.Broadcast(t.Context(), 2)
		deleted := make(chan error, 1)
		go func() { deleted <- l.System.Delete(t.Context(), "labs") }()
		entries, err := second.Results(t.Context())
		if err == nil || len(entries) != 2 {
			t.Errorf("%+v, %v", entries, err)
		}
		var ids []string
		for _, e := range entries {
			fixture.WantReason(t, e.Err, helve.ReplicaUnavailable)
			ids = append(ids, e.Replica)
		}
		if missed := second.Missed(t.Context()); !slices.Equal(missed, ids) || len(slices.Compact(slices.Sorted(slices.Values(ids)))) != 2 {
			t.Errorf("missed %v of %v", missed, ids)
		}
		close(hold)
		if entries, err := first.Results(t.Context()); err != nil || len(entries) != 2 || entries[0].Value != 1 || len(first.Missed(t.Context())) > 0 {
			t.Errorf("%+v, %v", entries, err)
		}
		if err := <-deleted; err != nil {
			t.Error(err)
		}
	})
}
