package records

import (
	"context"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/store"
)

// TestRecordsOfReplica: the assignment of a replica ends when it is to stop, its state when it is gone, and both with the node.
func TestRecordsOfReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		r := NewRecorder(s, slog.New(slog.DiscardHandler), "node")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.Run(ctx); close(ended) }()
		keys := func() (keys []string) {
			t.Helper()
			synctest.Wait()
			for _, prefix := range []string{store.Assigns("node").String(), store.Replicas("node").String()} {
				kvs, _, err := s.List(t.Context(), prefix)
				if err != nil {
					t.Error(err)
				}
				for _, kv := range kvs {
					keys = append(keys, kv.Key)
				}
			}
			return keys
		}
		assign, state := store.AssignKey("node", "D#1").String(), store.ReplicaKey("node", "D#1").String()
		assigned := &store.Assign{App: "app", Deployment: "D", Revision: 2, Version: "1"}
		long := &store.Replica{
			App: "app", Deployment: "D", Revision: 2, Version: "1", State: helvetype.ReplicaRunning, Message: strings.Repeat("ü", messageMax),
		}
		for _, step := range []struct {
			name     string
			assigned *store.Assign
			state    *store.Replica
			want     []string
		}{
			{"running", assigned, long, []string{assign, state}},
			{"stopping", nil, long, []string{state}},
			{"gone", nil, nil, nil},
			{"running again", assigned, long, []string{assign, state}},
		} {
			r.PutReplica("D#1", step.assigned, step.state)
			if got := keys(); !reflect.DeepEqual(got, step.want) {
				t.Errorf("%s: %v, want %v", step.name, got, step.want)
			}
		}
		kv, _, err := s.Get(t.Context(), state)
		if err != nil {
			t.Fatal(err)
		}
		got, err := store.Decode[store.Replica](kv)
		if err != nil || len(got.Message) > messageMax || len(got.Message) < messageMax-utf8.UTFMax || !utf8.ValidString(got.Message) {
			t.Errorf("a message of %d bytes: %v", len(got.Message), err)
		}
		cancel()
		<-ended
		if got := keys(); got != nil {
			t.Errorf("after the end of the node: %v", got)
		}
	})
}
