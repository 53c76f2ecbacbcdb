package records_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// TestBefore: a rollback without a number goes to the newest revision that ran and differs from the present one. After a deploy that went back by itself it goes to the revision that serves.
func TestBefore(t *testing.T) {
	t.Parallel()
	ran, failed, superseded := store.Outcome{State: store.Ran}, store.Outcome{State: store.Failed}, store.Outcome{State: store.Superseded}
	for name, x := range map[string]struct {
		now     store.App
		repeats uint64 // RollbackOf of the present revision
		want    int
	}{
		"the one before ran":                     {store.App{Revision: 3, Before: 2, Outcomes: map[uint64]store.Outcome{1: ran, 2: ran, 3: ran}}, 0, 2},
		"the one before failed":                  {store.App{Revision: 3, Before: 2, Outcomes: map[uint64]store.Outcome{1: ran, 2: failed, 3: ran}}, 0, 1},
		"the one before was superseded":          {store.App{Revision: 3, Before: 2, Outcomes: map[uint64]store.Outcome{1: ran, 2: superseded, 3: ran}}, 0, 1},
		"after a deploy that failed":             {store.App{Revision: 3, Before: 2, Outcomes: map[uint64]store.Outcome{2: ran, 3: ran, 4: failed}}, 0, 3},
		"after one that failed over a rollback":  {store.App{Revision: 4, Before: 3, Outcomes: map[uint64]store.Outcome{2: ran, 3: ran, 4: ran, 5: failed}}, 2, 2},
		"after an automatic rollback":            {store.App{Revision: 5, Before: 4, Outcomes: map[uint64]store.Outcome{2: ran, 3: ran, 4: failed, 5: ran}}, 3, 3},
		"after the next deploy":                  {store.App{Revision: 6, Before: 5, Outcomes: map[uint64]store.Outcome{3: ran, 4: failed, 5: ran, 6: ran}}, 0, 5},
		"after a rollback of an operator":        {store.App{Revision: 4, Before: 3, Outcomes: map[uint64]store.Outcome{2: ran, 3: ran, 4: ran}}, 2, 3},
		"none ran":                               {store.App{Revision: 2, Before: 1, Outcomes: map[uint64]store.Outcome{1: failed, 2: ran}}, 0, 0},
		"a record of an older program":           {store.App{Revision: 2, Before: 1}, 0, 1},
		"the present one is the only one":        {store.App{Revision: 1, Outcomes: map[uint64]store.Outcome{1: ran}}, 0, 0},
		"newer ones that ran before an undo":     {store.App{Revision: 1, Outcomes: map[uint64]store.Outcome{1: ran, 2: ran}}, 0, 0},
		"the newest was superseded, and no more": {store.App{Revision: 2, Before: 1, Outcomes: map[uint64]store.Outcome{1: ran, 2: ran, 3: superseded}}, 0, 1},
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
			target := records.NewTarget(s, store.NewMemoryBlobs(), slog.New(slog.DiscardHandler))
			if got := target.Before(t.Context(), "shop", x.now); got != x.want {
				t.Errorf("revision %d, want %d", got, x.want)
			}
		})
	}
}

// TestGoodRevisionsAreKept: of more revisions than an application keeps, the ones that failed go first, also when the next one fails. The newest failure stays, for people.
func TestGoodRevisionsAreKept(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	target := records.NewTarget(store.NewMemory(), store.NewMemoryBlobs(), slog.New(slog.DiscardHandler))
	g := spec.Graph{App: "shop", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "python", Import: "m:D"}}}
	former := records.Former{}
	var kept []string
	for _, fails := range []bool{false, true, false, true, true, true, false, false} {
		w, err := target.WriteDeploy(ctx, store.Revision{Graph: g, Keep: 4}, former)
		if err != nil {
			t.Fatal(err)
		}
		if former.Number = w.Number; fails {
			w.Fail("D", "no port", false)
			_, err = target.PutBack(ctx, "shop", w)
		} else {
			former.Running, former.Current = true, w.Number
			err = target.End(ctx, g, w)
		}
		if err != nil {
			t.Fatal(err)
		}
		now, all, err := target.History(ctx, "shop")
		if err != nil || len(now.Outcomes) != len(all) {
			t.Errorf("%d outcomes of %d revisions: %v", len(now.Outcomes), len(all), err)
		}
		text := ""
		for _, n := range all {
			text += fmt.Sprint(n.Number, string(n.Outcome.State[:1]), " ")
		}
		kept = append(kept, text)
	}
	want := []string{"1r ", "2f 1r ", "3r 2f 1r ", "4f 3r 2f 1r ", "5f 4f 3r 1r ", "6f 5f 3r 1r ", "7r 6f 3r 1r ", "8r 7r 3r 1r "}
	if fmt.Sprint(kept) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", kept, want)
	}
}
