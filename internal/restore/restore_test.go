package restore

import (
	"log/slog"
	"testing"

	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/store"
)

// TestBefore: a rollback without a number goes to the newest revision that ran and differs from the present one.
func TestBefore(t *testing.T) {
	t.Parallel()
	ran, failed, superseded := store.Outcome{State: store.Ran}, store.Outcome{State: store.Failed}, store.Outcome{State: store.Superseded}
	for name, x := range map[string]struct {
		now     store.App
		repeats uint64 // RollbackOf of the present revision
		want    int
	}{
		"the one before ran":                 {store.App{Revision: 3, Before: 2, Outcomes: map[uint64]store.Outcome{1: ran, 2: ran, 3: ran}}, 0, 2},
		"the one before failed":              {store.App{Revision: 3, Before: 2, Outcomes: map[uint64]store.Outcome{1: ran, 2: failed, 3: ran}}, 0, 1},
		"the one before was superseded":      {store.App{Revision: 3, Before: 2, Outcomes: map[uint64]store.Outcome{1: ran, 2: superseded, 3: ran}}, 0, 1},
		"after an automatic rollback":        {store.App{Revision: 5, Before: 4, Outcomes: map[uint64]store.Outcome{2: ran, 3: ran, 4: failed, 5: ran}}, 3, 2},
		"after a rollback of an operator":    {store.App{Revision: 4, Before: 3, Outcomes: map[uint64]store.Outcome{2: ran, 3: ran, 4: ran}}, 2, 3},
		"none ran":                           {store.App{Revision: 2, Before: 1, Outcomes: map[uint64]store.Outcome{1: failed, 2: ran}}, 0, 0},
		"a record of an older program":       {store.App{Revision: 2, Before: 1}, 0, 1},
		"the present one is the only one":    {store.App{Revision: 1, Outcomes: map[uint64]store.Outcome{1: ran}}, 0, 0},
		"newer ones that ran before an undo": {store.App{Revision: 1, Outcomes: map[uint64]store.Outcome{1: ran, 2: ran}}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := store.NewMemory()
			op, err := store.Encode(store.RevisionKey("shop", x.now.Revision), store.Revision{GraphDigest: "x", RollbackOf: x.repeats})
			if err == nil {
				_, err = s.Txn(t.Context(), store.Txn{Then: []store.Op{op}})
			}
			if err != nil {
				t.Fatal(err)
			}
			r := &Restorer{Target: records.NewTarget(s, store.NewMemoryBlobs(), slog.New(slog.DiscardHandler))}
			if got := r.before(t.Context(), "shop", x.now); got != x.want {
				t.Errorf("revision %d, want %d", got, x.want)
			}
		})
	}
}
