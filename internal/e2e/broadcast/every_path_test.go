package broadcast_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// Tally adds numbers up, each replica its own. Teller and the test call it, over every path.
type Tally struct{ sum atomic.Int64 }

// Add adds a number and returns the id of the replica. A negative number is an error.
func (s *Tally) Add(ctx context.Context, n int) (string, error) {
	if n < 0 {
		return "", errors.New("negative")
	}
	s.sum.Add(int64(n))
	return helve.ReplicaFrom(ctx).ID, nil
}

// Total is the sum until now.
func (s *Tally) Total(context.Context, helve.None) (int64, error) { return s.sum.Load(), nil }

// Teller calls Tally from its own process.
type Teller struct{ add helve.Method[int, string] }

// AddAll broadcasts, and returns the id of each replica that answered, or "failed" in its place.
func (r *Teller) AddAll(ctx context.Context, n int) ([]string, error) {
	results, err := r.add.Broadcast(ctx, n).Results(ctx)
	var ids []string
	for _, one := range results {
		switch {
		case one.Err == nil && one.Value != one.Replica:
			return nil, fmt.Errorf("%s answered for %s", one.Value, one.Replica)
		case one.Replica == "":
			return nil, errors.New("an answer without a replica")
		case one.Err == nil:
			ids = append(ids, one.Replica)
		default:
			ids = append(ids, "failed")
		}
	}
	if err != nil && helve.ReasonOf(err) != helve.User {
		return ids, err
	}
	return ids, nil
}

// Chosen adds at a replica that it chose before, and checks that a selection that was used or released is refused.
func (r *Teller) Chosen(ctx context.Context, n int) (string, error) {
	s, err := r.add.Choose(ctx)
	if err != nil {
		return "", err
	}
	id, err := r.add.Dispatch(ctx, s, n).Result(ctx)
	if err != nil || id != s.Replica() {
		return "", fmt.Errorf("chose %s, ran at %s: %w", s.Replica(), id, err)
	}
	if _, err := r.add.Dispatch(ctx, s, n).Result(ctx); helve.ReasonOf(err) != helve.BadInput {
		return "", fmt.Errorf("a second dispatch: %w", err)
	}
	for range 20 { // more than there are slots
		if s, err = r.add.Choose(ctx); err != nil {
			return "", err
		}
		s.Release()
		s.Release()
	}
	return id, nil
}

var buildTally = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("tally")
	tally := helve.Deploy(app, "Tally", func(context.Context) (*Tally, error) { return &Tally{}, nil }, helve.Options{NumReplicas: new(2)})
	add := helve.MethodOf(tally, (*Tally).Add)
	teller := helve.Deploy(app, "Teller", func(context.Context) (*Teller, error) { return &Teller{add}, nil },
		helve.Options{Uses: []helve.Target{add}, MaxOngoingRequests: new(100)})
	app.Ingress(helve.MethodOf(teller, (*Teller).AddAll))
	return app, nil
})

func handle[R any](t *testing.T, s *helve.System, name string) helve.Handle[R] {
	t.Helper()
	h, err := helve.HandleOf[R](s, "tally", name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestBroadcastOverEveryPath: every replica answers once, under its own id, also where some fail.
func TestBroadcastOverEveryPath(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildTally, func(t *testing.T, s *helve.System) {
		ctx := t.Context()
		source, front := handle[*Tally](t, s, "Tally"), handle[*Teller](t, s, "Teller")
		addAll := helve.MethodOf(front, (*Teller).AddAll)
		ids, err := addAll.Call(ctx, 5)
		if err != nil || len(ids) != 2 || ids[0] == ids[1] {
			t.Errorf("%v, %v", ids, err)
		}
		ids, err = addAll.Call(ctx, -1)
		if err != nil || len(ids) != 2 || ids[0] != "failed" {
			t.Errorf("%v, %v", ids, err)
		}
		results, err := helve.MethodOf(source, (*Tally).Total).Broadcast(ctx, helve.None{}).Results(ctx)
		if err != nil || len(results) != 2 || results[0].Value != 5 || results[1].Value != 5 {
			t.Errorf("%+v, %v", results, err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := helve.MethodOf(source, (*Tally).Add).Broadcast(ended, 5).Results(ctx); helve.ReasonOf(err) != helve.Cancelled {
			t.Errorf("%v", err)
		}
	})
}

// TestChooseOverEveryPath: the replica that was chosen runs the call; slots that are released can be chosen again.
func TestChooseOverEveryPath(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, buildTally, func(t *testing.T, s *helve.System) {
		chosen := helve.MethodOf(handle[*Teller](t, s, "Teller"), (*Teller).Chosen)
		for range 10 {
			if _, err := chosen.Call(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		results, err := helve.MethodOf(handle[*Tally](t, s, "Tally"), (*Tally).Total).Broadcast(t.Context(), helve.None{}).Results(t.Context())
		if err != nil || results[0].Value+results[1].Value != 10 {
			t.Errorf("%+v, %v", results, err)
		}
	})
}
