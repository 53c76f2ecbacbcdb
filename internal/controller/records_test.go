package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/instance"
	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// errDown is the answer of a store that is not reached.
var errDown = errors.New("the store is down") //nolint:gochecknoglobals // a constant

// badStore is a store with troubles that a test sets.
type badStore struct {
	*store.Memory

	mu     sync.Mutex
	down   bool                // every request fails
	hold   map[string]chan any // transactions with a key of the prefix wait for the channel
	before func(store.Txn)     // runs before each transaction
	txns   map[string]int      // transactions by key
}

func newBadStore() *badStore {
	return &badStore{Memory: store.NewMemory(), hold: map[string]chan any{}, txns: map[string]int{}}
}

func (s *badStore) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *badStore) Txn(ctx context.Context, t store.Txn) (int64, error) {
	var wait []chan any
	s.mu.Lock()
	down, before := s.down, s.before
	for _, op := range t.Then {
		s.txns[op.Key]++
		for prefix, c := range s.hold {
			if strings.HasPrefix(op.Key, prefix) {
				wait = append(wait, c)
			}
		}
	}
	s.mu.Unlock()
	if down {
		return 0, errDown
	}
	if before != nil {
		before(t)
	}
	for _, c := range wait {
		<-c
	}
	return s.Memory.Txn(ctx, t)
}

func (s *badStore) Lease(ctx context.Context, ttl time.Duration) (store.Lease, error) {
	l, err := s.Memory.Lease(ctx, ttl)
	return badLease{l, s}, err
}

type badLease struct {
	store.Lease
	of *badStore
}

func (l badLease) Renew(ctx context.Context) error {
	l.of.mu.Lock()
	down := l.of.down
	l.of.mu.Unlock()
	if down {
		return errDown
	}
	return l.Lease.Renew(ctx)
}

// record reads a record that must be there.
func record[R store.Record](t *testing.T, s store.Store, key store.Key[R]) R {
	t.Helper()
	r, err := store.Get(t.Context(), s, key)
	if err != nil || r.Modified == 0 {
		t.Errorf("record %s: found %t: %v", key, r.Modified != 0, err)
	}
	return r.Record
}

// keys are the keys of the records with a prefix.
func keys(t *testing.T, s store.Store, prefix string) []string {
	t.Helper()
	kvs, _, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, kv := range kvs {
		all = append(all, kv.Key)
	}
	return all
}

func wantKeys(t *testing.T, s store.Store, prefix string, want ...string) {
	t.Helper()
	if got := keys(t, s, prefix); !slices.Equal(got, want) {
		t.Errorf("the records with the prefix %q are %v, want %v", prefix, got, want)
	}
}

// putRecord writes a record as another program does.
func putRecord[R store.Record](t *testing.T, s store.Store, key store.Key[R], r R) {
	t.Helper()
	op, err := store.Encode(key, r)
	if err == nil {
		_, err = s.Txn(context.Background(), store.Txn{Then: []store.Op{op}})
	}
	if err != nil {
		t.Error(err)
	}
}

// appOf is the application "app" with a number of replicas for each deployment. Constructors call construct.
func appOf(numbers map[string]int, construct func() error) deploy.App {
	def := deploy.App{
		Graph:   spec.Graph{App: "app", Ingress: &spec.IngressSpec{Deployment: slices.Sorted(maps.Keys(numbers))[0]}},
		Classes: map[string]*instance.Class{}, Replace: true,
	}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		def.Graph.Deployments = append(def.Graph.Deployments, spec.Deployment{Name: name, Language: "go", Options: spec.Options{
			NumReplicas: numbers[name], Sources: map[string]spec.Source{"num_replicas": spec.FromCode},
		}})
		def.Classes[name] = &instance.Class{App: "app", Deployment: name, Construct: func(context.Context) (any, error) {
			if construct != nil {
				return nothing{}, construct()
			}
			return nothing{}, nil
		}}
	}
	return def
}

func (n *testNode) deploy(t *testing.T, def deploy.App) {
	t.Helper()
	if err := n.Deploy(t.Context(), def); err != nil {
		t.Fatal(err)
	}
}

// wantRunning waits until nothing moves, and counts the replicas of a deployment.
func (n *testNode) wantRunning(t *testing.T, when string, want int) {
	t.Helper()
	time.Sleep(time.Second) // fake time: replicas that stop look at their calls in intervals
	synctest.Wait()
	if got := len(n.running("app", "A")); got != want || n.Status().Applications["app"].Deployments["A"].Wanted != want {
		t.Errorf("%s: %d replicas run, want %d", when, got, want)
	}
}

// TestDeployWritesRecords: a deploy and a delete write revision, application and numbers of replicas.
func TestDeployWritesRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		n.deploy(t, appOf(map[string]int{"A": 2, "B": 1}, nil))
		if a := record(t, s, store.AppKey("app")); a.Revision != 1 {
			t.Errorf("%+v", a)
		}
		r := record(t, s, store.RevisionKey("app", 1))
		if len(r.Graph.Deployments) != 2 || r.Graph.Deployments[0].Options.NumReplicas != 2 || r.Identity == "" || r.From == "" || r.At.IsZero() {
			t.Errorf("%+v", r)
		}
		if a := record(t, s, store.ScaleKey("app", "A")); a.Replicas != 2 || a.By != "deploy" || a.Reason != "num_replicas of revision 1" {
			t.Errorf("%+v", a)
		}
		if err := n.Scale(t.Context(), "app", "B", 4, "ann", "a sale"); err != nil {
			t.Fatal(err)
		}
		n.deploy(t, appOf(map[string]int{"A": 3, "B": 1}, nil))
		if a := record(t, s, store.AppKey("app")); a.Revision != 2 {
			t.Errorf("%+v", a)
		}
		if a := record(t, s, store.ScaleKey("app", "A")); a.Replicas != 3 || a.Reason != "num_replicas of revision 2" {
			t.Errorf("%+v", a)
		}
		if b := record(t, s, store.ScaleKey("app", "B")); b.Replicas != 4 || b.By != "ann" || b.Reason != "a sale" {
			t.Errorf("%+v", b)
		}
		n.deploy(t, appOf(map[string]int{"A": 3}, nil)) // without B
		wantKeys(t, s, "scale/", "scale/app/A")
		if err := n.Delete(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		for _, prefix := range []string{"apps/", "revisions/", "scale/"} {
			wantKeys(t, s, prefix)
		}
	})
}

// TestFailedDeployPutsRecordsBack: what the failed deploy has changed is as before, but for changes of other writers.
func TestFailedDeployPutsRecordsBack(t *testing.T) {
	t.Parallel()
	broken := func() error { return errors.New("no licence") }
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		if err := n.Deploy(t.Context(), appOf(map[string]int{"A": 2}, broken)); err == nil {
			t.Error("no error")
		}
		for _, prefix := range []string{"apps/", "revisions/", "scale/"} {
			wantKeys(t, s, prefix)
		}
		n.deploy(t, appOf(map[string]int{"A": 2, "B": 2}, nil))
		failing := appOf(map[string]int{"A": 5, "B": 5, "C": 5}, func() error {
			if r, _, _ := s.Get(context.Background(), "scale/app/B"); !strings.Contains(string(r.Value), "ann") {
				putRecord(t, s, store.ScaleKey("app", "B"), store.Scale{Replicas: 3, By: "ann"})
			}
			return errors.New("no licence")
		})
		if err := n.Deploy(t.Context(), failing); err == nil {
			t.Error("no error")
		}
		n.wantRunning(t, "after the failure", 2)
		if got := record(t, s, store.AppKey("app")); got.Revision != 1 {
			t.Errorf("%+v", got)
		}
		if a := record(t, s, store.ScaleKey("app", "A")); a.Replicas != 2 || a.Reason != "revision 2 failed to start" {
			t.Errorf("%+v", a)
		}
		if b := record(t, s, store.ScaleKey("app", "B")); b.Replicas != 3 || len(n.running("app", "B")) != 3 {
			t.Errorf("%+v, %d run", b, len(n.running("app", "B")))
		}
		wantKeys(t, s, "scale/", "scale/app/A", "scale/app/B")
		n.deploy(t, appOf(map[string]int{"A": 2, "B": 2}, nil))
		if got := record(t, s, store.AppKey("app")); got.Revision != 3 {
			t.Errorf("%+v", got)
		}
		n.wantRunning(t, "after the next deploy", 2)
	})
}

// TestFailedDeployOverABadRecord: a number that cannot be read is not put back, and the deployment keeps the number that it has.
func TestFailedDeployOverABadRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		n.deploy(t, appOf(map[string]int{"A": 2}, nil))
		if _, err := s.Txn(t.Context(), store.Txn{Then: []store.Op{store.Put("scale/app/A", []byte("{"))}}); err != nil {
			t.Fatal(err)
		}
		if err := n.Deploy(t.Context(), appOf(map[string]int{"A": 5}, func() error { return errors.New("no licence") })); err == nil {
			t.Error("no error")
		}
		n.wantRunning(t, "after the failure", 2)
		n.deploy(t, appOf(map[string]int{"A": 2}, nil))
		n.wantRunning(t, "deployed again", 2)
		if a := record(t, s, store.ScaleKey("app", "A")); a.Replicas != 2 {
			t.Errorf("%+v", a)
		}
	})
}

// TestNumbersOfOtherWriters: the controller follows the records of the number of replicas, and leaves alone what it cannot read.
func TestNumbersOfOtherWriters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		n.deploy(t, appOf(map[string]int{"A": 1}, nil))
		putRecord(t, s, store.ScaleKey("app", "A"), store.Scale{Replicas: 3, By: "autoscaler"})
		n.wantRunning(t, "another writer", 3)
		for _, op := range []store.Op{
			store.Put("scale/app/A", []byte("{")), store.Put("scale/app/A", []byte(`{"format":1,"record":{"replicas":1000000}}`)),
			store.Put("scale/app", nil), store.Delete("scale/app/A"), store.Delete("scale/none/A"),
		} {
			if _, err := s.Txn(t.Context(), store.Txn{Then: []store.Op{op}}); err != nil {
				t.Fatal(err)
			}
			n.wantRunning(t, fmt.Sprintf("%s %s", op.Key, op.Value), 3)
		}
		putRecord(t, s, store.ScaleKey("app", "Other"), store.Scale{Replicas: 3})
		n.deploy(t, appOf(map[string]int{"A": 1}, nil)) // the record was deleted: the number is the controller's
		n.wantRunning(t, "deployed", 3)
		if a := record(t, s, store.ScaleKey("app", "A")); a.Replicas != 3 {
			t.Errorf("%+v", a)
		}
		s.Compact(1 << 40) // a watch that is behind lists again
		putRecord(t, s, store.ScaleKey("app", "A"), store.Scale{Replicas: 2})
		n.wantRunning(t, "after the history was dropped", 2)
	})
}

// TestDeployComparesRecords: a number that another writer sets while the deploy decides is seen, and a writer that never stops is an error.
func TestDeployComparesRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newBadStore()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		n.deploy(t, appOf(map[string]int{"A": 1}, nil))
		writes := 0
		interfere := func(times int) {
			writes = 0
			s.set(func() {
				s.before = func(txn store.Txn) {
					if slices.ContainsFunc(txn.Then, func(op store.Op) bool { return strings.HasPrefix(op.Key, "revisions/app") }) {
						if writes++; writes <= times {
							op, err := store.Encode(store.ScaleKey("app", "A"), store.Scale{Replicas: 3, By: "ann"})
							if err == nil {
								_, err = s.Memory.Txn(context.Background(), store.Txn{Then: []store.Op{op}})
							}
							if err != nil {
								t.Error(err)
							}
						}
					}
				}
			})
		}
		interfere(1)
		n.deploy(t, appOf(map[string]int{"A": 2}, nil))
		if a := record(t, s, store.ScaleKey("app", "A")); a.Replicas != 2 || writes != 2 {
			t.Errorf("%+v after %d writes", a, writes)
		}
		n.wantRunning(t, "a deploy after another writer", 2)
		interfere(100)
		err := n.Deploy(t.Context(), appOf(map[string]int{"A": 4}, nil))
		if _, conflict := errors.AsType[*store.ConflictError](err); !conflict || writes != 5 {
			t.Errorf("%v after %d writes", err, writes)
		}
		interfere(0)
		n.wantRunning(t, "the other writer", 3)
		s.set(func() { s.down = true })
		if err := n.Deploy(t.Context(), appOf(map[string]int{"A": 4}, nil)); !errors.Is(err, errDown) {
			t.Error(err)
		}
		if err := n.Delete(t.Context(), "app"); !errors.Is(err, errDown) {
			t.Error(err)
		}
		if err := n.Scale(t.Context(), "app", "A", 4, "ann", ""); !errors.Is(err, errDown) {
			t.Error(err)
		}
		s.set(func() { s.down = false })
		n.wantRunning(t, "after the store was down", 3)
		n.deploy(t, appOf(map[string]int{"A": 4}, nil))
		n.wantRunning(t, "deployed at last", 4)
	})
}

// TestLargeRevisions: user configs over the limit of a record, and more deployments than a transaction takes, are deployed all the same.
func TestLargeRevisions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, blobs := store.NewMemory(), store.NewMemoryBlobs()
		n := newTestNode(Settings{Store: s, Blobs: blobs})
		n.closeAfter(t)
		large := appOf(map[string]int{"A": 1}, nil)
		large.Graph.Deployments[0].Options.UserConfig = json.RawMessage(`"` + strings.Repeat("x", store.MaxValue) + `"`)
		large.Classes["A"].Configure = func(context.Context, any, json.RawMessage) error { return nil }
		n.deploy(t, large)
		key := store.RevisionKey("app", 1)
		r := record(t, s, key)
		b, err := store.ReadBlob(blobs, r.GraphDigest)
		var g spec.Graph
		if err == nil {
			err = json.Unmarshal(b, &g)
		}
		if err != nil || g.Digest() != large.Graph.Digest() || len(g.Deployments[0].Options.UserConfig) != store.MaxValue+2 {
			t.Errorf("%v: %+v", err, r)
		}
		if err := n.Delete(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		many := map[string]int{}
		for i := range 150 {
			many[fmt.Sprintf("D%d", i)] = 1
		}
		n.deploy(t, appOf(many, nil))
		if got := len(keys(t, s, "scale/app/")); got != 150 {
			t.Errorf("%d numbers of replicas", got)
		}
		time.Sleep(store.BlobAge) // younger blobs stay
		if err := n.Delete(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		for _, prefix := range []string{"apps/", "revisions/", "scale/"} {
			wantKeys(t, s, prefix)
		}
		if _, err := blobs.Open(r.GraphDigest); !errors.Is(err, store.ErrNoBlob) {
			t.Errorf("the blob outlives its record: %v", err)
		}
	})
}

func TestOldRevisionsAreDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		for range 12 {
			n.deploy(t, appOf(map[string]int{"A": 1}, nil))
		}
		if got := keys(t, s, "revisions/app/"); len(got) != 10 || got[0] != "revisions/app/0000000003" {
			t.Error(got)
		}
	})
}

// TestNextNodeOfTheStore: a node that starts on a store with records goes on with their revisions and numbers.
func TestNextNodeOfTheStore(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"small": 1, "large": store.MaxValue} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, blobs := store.NewMemory(), store.NewMemoryBlobs()
				def := func() deploy.App {
					d := appOf(map[string]int{"A": 1}, nil)
					d.Graph.Deployments[0].Options.UserConfig = json.RawMessage(`"` + strings.Repeat("x", size) + `"`)
					d.Classes["A"].Configure = func(context.Context, any, json.RawMessage) error { return nil }
					return d
				}
				first := newTestNode(Settings{Store: s, Blobs: blobs})
				first.deploy(t, def())
				if err := first.Scale(t.Context(), "app", "A", 2, "ann", ""); err != nil {
					t.Fatal(err)
				}
				if err := first.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				next := newTestNode(Settings{Store: s, Blobs: blobs})
				next.closeAfter(t)
				next.deploy(t, def())
				next.wantRunning(t, "the next node", 2)
				if a := record(t, s, store.AppKey("app")); a.Revision != 2 {
					t.Errorf("%+v", a)
				}
			})
		})
	}
}

// TestRecordsOfTheNode: the node and its replicas are records as long as they live.
func TestRecordsOfTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.deploy(t, appOf(map[string]int{"A": 1}, nil))
		synctest.Wait()
		replicas, _, err := store.List(t.Context(), s, store.Replicas("local"))
		assigns, _, err2 := store.List(t.Context(), s, store.Assigns("local"))
		if err = errors.Join(err, err2); err != nil || len(replicas) != 1 || len(assigns) != 1 {
			t.Fatalf("%v, %v: %v", replicas, assigns, err)
		}
		r := replicas[0].Record
		if r.Since.IsZero() {
			t.Error("no time")
		}
		r.Since = time.Time{}
		if want := (store.Replica{App: "app", Deployment: "A", Revision: 1, Version: "1", State: helvetype.ReplicaRunning, Reason: "ready"}); r != want {
			t.Errorf("got %+v, want %+v", r, want)
		}
		if want := (store.Assign{App: "app", Deployment: "A", Revision: 1, Version: "1"}); assigns[0].Record != want {
			t.Errorf("got %+v, want %+v", assigns[0].Record, want)
		}
		before := replicas[0].Modified
		time.Sleep(time.Hour) // fake time
		node := record(t, s, store.NodeKey("local"))
		if node.State != store.NodeReady || node.Incarnation == "" {
			t.Errorf("%+v", node)
		}
		if now, _, _ := store.List(t.Context(), s, store.Replicas("local")); len(now) != 1 || now[0].Modified != before {
			t.Errorf("the record of a replica whose state is the same was written: %+v", now)
		}
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, prefix := range []string{"nodes/", "replicas/", "assign/"} {
			wantKeys(t, s, prefix)
		}
		wantKeys(t, s, "apps/", "apps/app") // it is wanted on
	})
}

// slowEnd is an instance whose Close waits.
type slowEnd struct{ nothing }

func (slowEnd) Close(context.Context) error {
	time.Sleep(time.Second) // fake time
	return nil
}

// TestRecordsOfAReplicaThatStops: the assignment goes first, the replica's own record when it has stopped.
func TestRecordsOfAReplicaThatStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		def := appOf(map[string]int{"A": 1}, nil)
		def.Classes["A"].Construct = func(context.Context) (any, error) { return slowEnd{}, nil }
		n.deploy(t, def)
		synctest.Wait()
		_, from, err := s.List(t.Context(), "replicas/")
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Scale(t.Context(), "app", "A", 0, "ann", ""); err != nil {
			t.Fatal(err)
		}
		n.wantRunning(t, "none", 0)
		n.wantRunning(t, "its instance has closed", 0)
		var seen []string
		for u, err := range s.Watch(t.Context(), "", from+1) {
			if err != nil {
				t.Fatal(err)
			}
			for _, ch := range u.Changes {
				kind, _, _ := strings.Cut(ch.Key, "/")
				if ch.Deleted {
					kind += " deleted"
				} else if kind == "replicas" {
					r, err := store.Decode[store.Replica](ch.KV)
					if err != nil {
						t.Error(err)
					}
					kind += " " + string(r.State) + " " + r.Reason
				}
				seen = append(seen, kind)
			}
			if slices.Contains(seen, "replicas deleted") {
				break
			}
		}
		if want := []string{"scale", "assign deleted", "replicas STOPPING stop", "replicas deleted"}; !reflect.DeepEqual(seen, want) {
			t.Errorf("got %q, want %q", seen, want)
		}
	})
}

// TestStoreThatDoesNotAnswer: the controller goes on without the records of its replicas, and writes the newest when it can.
func TestStoreThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, release := newBadStore(), make(chan any)
		s.hold["assign/"] = release
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		n.deploy(t, appOf(map[string]int{"A": 1}, nil))
		n.wantRunning(t, "while the store holds a write", 1)
		if err := n.Scale(t.Context(), "app", "A", 3, "ann", ""); err != nil {
			t.Fatal(err)
		}
		n.wantRunning(t, "scaled", 3)
		close(release)
		synctest.Wait()
		for _, key := range keys(t, s, "replicas/local/") {
			s.mu.Lock()
			writes := s.txns[key]
			s.mu.Unlock()
			if writes > 2 { // STARTING, which waited at the store, and RUNNING
				t.Errorf("%s was written %d times", key, writes)
			}
			kv, _, err := s.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := store.Decode[store.Replica](kv); err != nil || r.State != helvetype.ReplicaRunning {
				t.Errorf("%s: %+v: %v", key, r, err)
			}
		}
		if got := len(keys(t, s, "replicas/local/")); got != 3 {
			t.Errorf("%d replicas", got)
		}
	})
}

// TestStoreThatIsDown: a node that could not renew its record makes it again, and writes the records of its replicas that have changed.
func TestStoreThatIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newBadStore()
		n := newTestNode(Settings{Store: s})
		n.closeAfter(t)
		n.deploy(t, appOf(map[string]int{"A": 2}, nil))
		synctest.Wait()
		if got := len(keys(t, s, "replicas/local/")); got != 2 {
			t.Fatalf("%d replicas", got)
		}
		s.set(func() { s.down = true })
		kill(n.running("app", "A")[0], host.Ending{Exit: helvetype.Exit{Reason: "killed", Code: -1}, First: true, FirstOfDeployment: true})
		time.Sleep(time.Minute) // fake time
		wantKeys(t, s, "nodes/")
		s.set(func() { s.down = false })
		time.Sleep(3 * time.Second) // until the next renewal
		synctest.Wait()
		record(t, s, store.NodeKey("local"))
		var want []string
		for _, r := range n.running("app", "A") {
			want = append(want, store.ReplicaKey("local", r.ID).String())
		}
		slices.Sort(want)
		wantKeys(t, s, "replicas/local/", want...)
	})
}
