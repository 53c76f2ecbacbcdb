package records_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/records"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// TestUndoAfterAutoscaler: a deploy is taken back, by its node or by the next one: a number that the autoscaler of its revision has written meanwhile does not stay, and one that grew by load where
// both revisions follow it does.
func TestUndoAfterAutoscaler(t *testing.T) {
	t.Parallel()
	fixed := func(n int) spec.Options {
		return spec.Options{NumReplicas: n, Sources: map[string]spec.Source{"num_replicas": spec.FromCode}}
	}
	byLoad := func(config string) spec.Options {
		return spec.Options{AutoscalingConfig: json.RawMessage(config), Sources: map[string]spec.Source{"autoscaling_config": spec.FromCode}}
	}
	graph := func(o spec.Options) spec.Graph {
		return spec.Graph{App: "shop", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "go", Options: o}}}
	}
	scaled := func(n int) *store.Scale {
		return &store.Scale{Replicas: n, By: store.ByAutoscaler, Reason: "load", At: time.Now().UTC(), State: json.RawMessage(`{}`)}
	}
	for name, x := range map[string]struct {
		before, next spec.Options
		scaled, then *store.Scale // before the deploy and in it
		want         int
		by           string
	}{
		"a number that was left":      {before: fixed(4), next: byLoad(`{"max_replicas": 8}`), then: scaled(1), want: 4, by: "deploy"},
		"a number that was set":       {before: fixed(4), next: byLoad(`{"max_replicas": 8, "initial_replicas": 2}`), then: scaled(7), want: 4, by: "deploy"},
		"nothing was written":         {before: fixed(4), next: byLoad(`{"max_replicas": 8}`), want: 4, by: "deploy"},
		"both follow the load, lower": {before: byLoad(`{"max_replicas": 9}`), scaled: scaled(5), next: byLoad(`{"max_replicas": 3}`), then: scaled(3), want: 5, by: "autoscaler"},
		"both follow the load, more":  {before: byLoad(`{"max_replicas": 9}`), scaled: scaled(5), next: byLoad(`{"max_replicas": 8}`), then: scaled(7), want: 7, by: "autoscaler"},
		"from load to a fixed number": {before: byLoad(`{"max_replicas": 9}`), scaled: scaled(5), next: fixed(2), want: 5, by: "autoscaler"},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				memory, blobs := store.NewMemory(), store.NewMemoryBlobs()
				node := func() *records.Target {
					target := records.NewTarget(memory, blobs, slog.New(slog.DiscardHandler))
					target.Durable = true
					return target
				}
				write := func(target *records.Target, s *store.Scale) {
					if s == nil {
						return
					}
					if _, err := target.WriteScale(t.Context(), "shop", "D", *s); err != nil {
						t.Fatal(err)
					}
				}
				first := node()
				w, err := first.WriteDeploy(t.Context(), store.Revision{Graph: graph(x.before)}, records.Former{})
				if err == nil {
					err = first.End(t.Context(), graph(x.before), w)
				}
				if err != nil {
					t.Fatal(err)
				}
				write(first, x.scaled)
				w, err = first.WriteDeploy(t.Context(), store.Revision{Graph: graph(x.next)}, records.Former{
					Running: true, Current: 1, Number: 1, Submitted: records.Submitted(graph(x.before)),
				})
				if err != nil {
					t.Fatal(err)
				}
				write(first, x.then)
				target := first
				if killed {
					target = node()
					all, err := target.Stored(t.Context())
					if err != nil || len(all) != 1 || !all[0].Deploy.Unended() {
						t.Fatalf("%+v, %v", all, err)
					}
					w = all[0].Deploy
				}
				if _, err := target.Undo(t.Context(), "shop", w); err != nil {
					t.Fatal(err)
				}
				kept, err := store.Get(t.Context(), memory, store.ScaleKey("shop", "D"))
				if err != nil || kept.Record.Replicas != x.want || kept.Record.By != x.by {
					t.Errorf("killed %t: %d replicas by %s, want %d by %s: %v", killed, kept.Record.Replicas, kept.Record.By, x.want, x.by, err)
				}
			})
		}
	}
}

// TestConfigOfALoad: a deploy that changes an autoscaling_config at full load stops no replica, and initial_replicas above the number holds.
func TestConfigOfALoad(t *testing.T) {
	t.Parallel()
	graph := func(config string) spec.Graph {
		o := spec.Options{AutoscalingConfig: json.RawMessage(config), Sources: map[string]spec.Source{"autoscaling_config": spec.FromCode}}
		return spec.Graph{App: "shop", Ingress: &spec.IngressSpec{Deployment: "D"}, Deployments: []spec.Deployment{{Name: "D", Language: "go", Options: o}}}
	}
	for initial, want := range map[int]int{1: 5, 5: 5, 7: 7} {
		memory := store.NewMemory()
		target := records.NewTarget(memory, store.NewMemoryBlobs(), slog.New(slog.DiscardHandler))
		target.Durable = true
		before, next := graph(`{"max_replicas": 8, "initial_replicas": 1}`), graph(fmt.Sprintf(`{"max_replicas": 9, "initial_replicas": %d}`, initial))
		w, err := target.WriteDeploy(t.Context(), store.Revision{Graph: before}, records.Former{})
		if err == nil {
			err = target.End(t.Context(), before, w)
		}
		if err == nil {
			_, err = target.WriteScale(t.Context(), "shop", "D", store.Scale{Replicas: 5, By: store.ByAutoscaler, Reason: "load", At: time.Now().UTC()})
		}
		if err == nil {
			_, err = target.WriteDeploy(t.Context(), store.Revision{Graph: next}, records.Former{Running: true, Current: 1, Number: 1, Submitted: records.Submitted(before)})
		}
		if err != nil {
			t.Fatal(err)
		}
		if kept, err := store.Get(t.Context(), memory, store.ScaleKey("shop", "D")); err != nil || kept.Record.Replicas != want {
			t.Errorf("initial_replicas %d: %d replicas, want %d: %v", initial, kept.Record.Replicas, want, err)
		}
	}
}
