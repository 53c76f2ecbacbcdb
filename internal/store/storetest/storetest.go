// Package storetest has the tests that every implementation of store.Store passes.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/internal/store"
)

// Subject is an implementation under test.
type Subject struct {
	// Open gives an empty store, for one test.
	Open func(t *testing.T) store.Store
	// Compact drops the history of a store up to a revision.
	Compact func(t *testing.T, s store.Store, revision int64)
	// Lease is the shortest time of a lease.
	Lease time.Duration
	// FakeClock is set for implementations without goroutines and connections of their own: the tests run under
	// testing/synctest, where an hour passes at once and a goroutine that is left behind fails the test. Without it, tests
	// that need a clock wait for a lease of the shortest time, and tests of exact times do not run.
	FakeClock bool
}

// Run tests an implementation.
func Run(t *testing.T, s Subject) {
	for _, x := range []struct {
		name string
		test func(*testing.T, Subject)
	}{
		{"get", get}, {"list", list}, {"delete", deleting}, {"values are copies", copies},
		{"transactions are whole", whole}, {"conditions", conditions}, {"limits", limits},
		{"watch", watch}, {"watch of the past", past}, {"watch of a prefix", prefixes}, {"watch that is behind", compacted},
		{"watch that is cancelled", cancelled}, {"watch that is not read", unread},
		{"no update is lost", races}, {"updates of several keys", transfers},
		{"leases end", leases}, {"leases are renewed", renewals}, {"ends of leases", ends}, {"a leader is fenced", fenced},
	} {
		t.Run(x.name, func(t *testing.T) {
			if !s.FakeClock {
				x.test(t, s)
				return
			}
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { x.test(t, s) })
		})
	}
}

// tester is a store whose errors fail the test.
type tester struct {
	t *testing.T
	store.Store
}

func open(t *testing.T, s Subject) tester { return tester{t, s.Open(t)} }

func (s tester) put(key, value string) (revision int64) {
	s.t.Helper()
	return s.txn(store.Txn{Then: []store.Op{store.Put(key, []byte(value))}})
}

func (s tester) txn(x store.Txn) (revision int64) {
	s.t.Helper()
	revision, err := s.Txn(s.t.Context(), x)
	if err != nil {
		s.t.Fatal(err)
	}
	return revision
}

func (s tester) get(key string) (store.KV, int64) {
	s.t.Helper()
	r, revision, err := s.Get(s.t.Context(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	return r, revision
}

func (s tester) lease(ttl time.Duration) store.Lease {
	s.t.Helper()
	l, err := s.Lease(s.t.Context(), ttl)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// keys lists the keys with a prefix.
func (s tester) keys(prefix string) (keys []string) {
	s.t.Helper()
	records, _, err := s.List(s.t.Context(), prefix)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range records {
		keys = append(keys, r.Key)
	}
	return keys
}

// watching is a watch that is read one update at a time.
func (s tester) watching(prefix string, from int64) (next func() store.Update) {
	s.t.Helper()
	pull, stop := iter.Pull2(s.Watch(s.t.Context(), prefix, from))
	s.t.Cleanup(stop)
	return func() store.Update {
		s.t.Helper()
		u, err, ok := pull()
		if err != nil || !ok {
			s.t.Fatalf("the watch ended: %v", err)
		}
		return u
	}
}

// show writes the changes of an update as "key=value" and "-key".
func show(u store.Update) (out []string) {
	for _, c := range u.Changes {
		if c.Deleted {
			out = append(out, "-"+c.Key)
			continue
		}
		out = append(out, c.Key+"="+string(c.Value))
	}
	return out
}

func wants(t *testing.T, got store.Update, revision int64, want ...string) {
	t.Helper()
	if got.Revision != revision || !slices.Equal(show(got), want) {
		t.Errorf("revision %d: %v; want revision %d: %v", got.Revision, show(got), revision, want)
	}
	for _, c := range got.Changes {
		if c.Modified != revision {
			t.Errorf("%s is of revision %d, its update of %d", c.Key, c.Modified, revision)
		}
	}
}

func isLimit(err error) bool {
	_, ok := errors.AsType[*store.LimitError](err)
	return ok
}

func get(t *testing.T, x Subject) {
	s := open(t, x)
	missing, before := s.get("a")
	if missing.Modified != 0 || missing.Key != "a" || missing.Value != nil {
		t.Errorf("a record that does not exist: %+v", missing)
	}
	first := s.put("a", "1")
	second := s.put("a", "2")
	if first <= before || second != first+1 {
		t.Errorf("revisions %d, %d, %d", before, first, second)
	}
	r, now := s.get("a")
	if want := (store.KV{Key: "a", Value: []byte("2"), Created: first, Modified: second}); !reflect.DeepEqual(r, want) || now != second {
		t.Errorf("%+v at %d, want %+v", r, now, want)
	}
	s.put("empty", "")
	if r, _ := s.get("empty"); len(r.Value) != 0 || r.Modified == 0 {
		t.Errorf("an empty value: %+v", r)
	}
	if _, _, err := s.Get(t.Context(), ""); !isLimit(err) {
		t.Errorf("an empty key: %v", err)
	}
}

func list(t *testing.T, x Subject) {
	s := open(t, x)
	var last int64
	for _, key := range []string{"b/2", "a", "b/10", "b", "b/", "ba"} {
		last = s.put(key, key)
	}
	for prefix, want := range map[string][]string{
		"b/": {"b/", "b/10", "b/2"}, "b": {"b", "b/", "b/10", "b/2", "ba"}, "x": nil, "": {"a", "b", "b/", "b/10", "b/2", "ba"},
	} {
		if got := s.keys(prefix); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", prefix, got, want)
		}
	}
	records, revision, err := s.List(t.Context(), "ba")
	if err != nil || revision != last || len(records) != 1 || string(records[0].Value) != "ba" || records[0].Modified != last {
		t.Errorf("%+v at %d, want revision %d: %v", records, revision, last, err)
	}
}

func deleting(t *testing.T, x Subject) {
	s := open(t, x)
	first := s.put("a", "1")
	if got := s.txn(store.Txn{Then: []store.Op{store.Delete("b")}}); got != first {
		t.Errorf("deleting nothing made revision %d of %d", got, first)
	}
	gone := s.txn(store.Txn{Then: []store.Op{store.Delete("a")}})
	if r, _ := s.get("a"); r.Modified != 0 {
		t.Errorf("a deleted record: %+v", r)
	}
	again := s.put("a", "2")
	if r, _ := s.get("a"); r.Created != again || gone != first+1 || again != gone+1 {
		t.Errorf("a record that was made again: %+v; revisions %d, %d, %d", r, first, gone, again)
	}
}

func copies(t *testing.T, x Subject) {
	s := open(t, x)
	value := []byte("value")
	rev := s.txn(store.Txn{Then: []store.Op{store.Put("a", value)}})
	copy(value, "XXXXX")
	r, _ := s.get("a")
	copy(r.Value, "YYYYY")
	records, _, err := s.List(t.Context(), "a")
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	copy(records[0].Value, "ZZZZZ")
	u := s.watching("a", rev)()
	wants(t, u, rev, "a=value")
	copy(u.Changes[0].Value, "WWWWW")
	wants(t, s.watching("a", rev)(), rev, "a=value")
	if r, _ := s.get("a"); string(r.Value) != "value" {
		t.Errorf("the store has %q", r.Value)
	}
}

func whole(t *testing.T, x Subject) {
	s := open(t, x)
	first := s.put("a", "1")
	next := s.watching("", first+1)
	rev := s.txn(store.Txn{Then: []store.Op{store.Put("b", []byte("2")), store.Delete("a"), store.Put("c", []byte("3")), store.Delete("none")}})
	u := next()
	got := show(u)
	slices.Sort(got) // the order within a revision is the implementation's
	if u.Revision != rev || !slices.Equal(got, []string{"-a", "b=2", "c=3"}) {
		t.Errorf("revision %d: %v, want %d", u.Revision, got, rev)
	}
	if now := s.txn(store.Txn{If: []store.Condition{{Key: "c", Modified: rev}}}); now != rev {
		t.Errorf("a transaction without operations made revision %d of %d", now, rev)
	}
}

func conditions(t *testing.T, x Subject) {
	s := open(t, x)
	a := s.put("a", "1")
	b := s.put("b", "1")
	for _, c := range []struct {
		name      string
		when      []store.Condition
		conflicts []string
	}{
		{"holds", []store.Condition{{Key: "a", Modified: a}}, nil},
		{"all hold", []store.Condition{{Key: "a", Modified: a}, {Key: "b", Modified: b}, {Key: "c"}}, nil},
		{"older", []store.Condition{{Key: "b", Modified: a}}, []string{"b"}},
		{"newer", []store.Condition{{Key: "b", Modified: b + 1000}}, []string{"b"}},
		{"should not exist", []store.Condition{{Key: "a"}}, []string{"a"}},
		{"should exist", []store.Condition{{Key: "c", Modified: b}}, []string{"c"}},
		{"one of two", []store.Condition{{Key: "a", Modified: a}, {Key: "b", Modified: a}}, []string{"b"}},
		{"two of two", []store.Condition{{Key: "a", Modified: b}, {Key: "b", Modified: a}}, []string{"a", "b"}},
	} {
		_, before := s.get("x")
		_, err := s.Txn(t.Context(), store.Txn{If: c.when, Then: []store.Op{store.Put("done/"+c.name, nil)}})
		conflict, refused := errors.AsType[*store.ConflictError](err)
		if !refused && err != nil || refused != (c.conflicts != nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		done, after := s.get("done/" + c.name)
		if (done.Modified != 0) == refused || refused && after != before {
			t.Errorf("%s: it was applied: %t; revisions %d and %d", c.name, done.Modified != 0, before, after)
		}
		if !refused {
			continue
		}
		var got []string
		for _, r := range conflict.Records {
			got = append(got, r.Key)
			if now, _ := s.get(r.Key); !reflect.DeepEqual(now, r) {
				t.Errorf("%s: the conflict says %+v, the store %+v", c.name, r, now)
			}
		}
		if slices.Sort(got); !slices.Equal(got, c.conflicts) {
			t.Errorf("%s: conflicts of %v, want %v", c.name, got, c.conflicts)
		}
	}
	gone := s.txn(store.Txn{Then: []store.Op{store.Delete("a")}})
	if _, err := s.Txn(t.Context(), store.Txn{If: []store.Condition{{Key: "a", Modified: gone}}}); err == nil {
		t.Error("a deleted record is as it was deleted")
	}
}

func limits(t *testing.T, x Subject) {
	s := open(t, x)
	ops := func(n, size int) (ops []store.Op) {
		for i := range n {
			ops = append(ops, store.Put(fmt.Sprint(i), bytes.Repeat([]byte{'x'}, size)))
		}
		return ops
	}
	conditions := func(n int) (cs []store.Condition) {
		for i := range n {
			cs = append(cs, store.Condition{Key: fmt.Sprint("c", i)})
		}
		return cs
	}
	for _, c := range []struct {
		name string
		txn  store.Txn
		ok   bool
	}{
		{"the largest value", store.Txn{Then: ops(1, store.MaxValue)}, true},
		{"a larger value", store.Txn{Then: ops(1, store.MaxValue+1)}, false},
		{"the most operations", store.Txn{If: conditions(store.MaxOps), Then: ops(store.MaxOps, 1)}, true},
		{"more operations", store.Txn{Then: ops(store.MaxOps+1, 1)}, false},
		{"more conditions", store.Txn{If: conditions(store.MaxOps + 1)}, false},
		{"the most bytes", store.Txn{Then: ops(4, store.MaxValue-1)}, true},
		{"more bytes", store.Txn{Then: ops(5, store.MaxValue)}, false},
		{"a key twice", store.Txn{Then: []store.Op{store.Put("a", nil), store.Delete("a")}}, false},
		{"a condition twice", store.Txn{If: []store.Condition{{Key: "a"}, {Key: "a"}}}, false},
		{"the longest key", store.Txn{Then: []store.Op{store.Put(strings.Repeat("k", store.MaxKey), nil)}}, true},
		{"a longer key", store.Txn{Then: []store.Op{store.Put(strings.Repeat("k", store.MaxKey+1), nil)}}, false},
		{"an empty key", store.Txn{Then: []store.Op{store.Put("", nil)}}, false},
		{"a key that is no text", store.Txn{Then: []store.Op{store.Put("\xff", nil)}}, false},
		{"a condition on a key that is no text", store.Txn{If: []store.Condition{{Key: "a\x00"}}}, false},
		{"nothing", store.Txn{}, true},
	} {
		if _, err := s.Txn(t.Context(), c.txn); isLimit(err) == c.ok || c.ok && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := s.Lease(t.Context(), 0); !isLimit(err) {
		t.Errorf("a lease of no time: %v", err)
	}
}

func watch(t *testing.T, x Subject) {
	s := open(t, x)
	_, now := s.get("a")
	next := s.watching("a", now+1)
	first := s.put("a", "1")
	wants(t, next(), first, "a=1")
	second := s.put("a", "2")
	third := s.txn(store.Txn{Then: []store.Op{store.Delete("a")}})
	fourth := s.put("a", "3")
	wants(t, next(), second, "a=2")
	wants(t, next(), third, "-a")
	u := next()
	wants(t, u, fourth, "a=3")
	if c := u.Changes[0]; c.Created != fourth {
		t.Errorf("made again, and created at %d of %d", c.Created, fourth)
	}
}

func past(t *testing.T, x Subject) {
	s := open(t, x)
	first := s.put("a", "1")
	second := s.put("a", "2")
	third := s.txn(store.Txn{Then: []store.Op{store.Delete("a")}})
	for from, want := range map[int64][]string{first: {"a=1", "a=2", "-a"}, second: {"a=2", "-a"}, third: {"-a"}} {
		next := s.watching("a", from)
		for i, change := range want {
			wants(t, next(), from+int64(i), change)
		}
	}
	next := s.watching("a", third+3) // a revision that does not exist yet
	for i := range 5 {
		s.put("a", strconv.Itoa(i))
	}
	wants(t, next(), third+3, "a=2")
}

func prefixes(t *testing.T, x Subject) {
	s := open(t, x)
	first := s.put("nodes/1", "x")
	s.put("node", "x")
	s.put("nodesx", "x")
	both := s.txn(store.Txn{Then: []store.Op{store.Put("nodes/2", []byte("y")), store.Put("other", []byte("y"))}})
	s.put("zzz", "x")
	last := s.txn(store.Txn{Then: []store.Op{store.Delete("nodes/1")}})
	next := s.watching("nodes/", first)
	wants(t, next(), first, "nodes/1=x")
	wants(t, next(), both, "nodes/2=y")
	wants(t, next(), last, "-nodes/1")
	all := s.watching("", both)
	if u := all(); u.Revision != both || len(u.Changes) != 2 {
		t.Errorf("revision %d: %v, want all changes of %d", u.Revision, show(u), both)
	}
}

func compacted(t *testing.T, x Subject) {
	s := open(t, x)
	first := s.put("a", "1")
	s.put("a", "2")
	last := s.put("a", "3")
	ahead := s.watching("a", last)
	x.Compact(t, s.Store, last-1)
	seen := 0
	for u, err := range s.Watch(t.Context(), "a", first) {
		if seen++; !errors.Is(err, store.ErrCompacted) {
			t.Errorf("%v: %v", show(u), err)
			break
		}
	}
	if seen != 1 {
		t.Errorf("a watch that is over gave %d updates", seen)
	}
	wants(t, ahead(), last, "a=3")
	wants(t, s.watching("a", last)(), last, "a=3")
	if r, _ := s.get("a"); string(r.Value) != "3" || r.Created != first {
		t.Errorf("%+v", r)
	}
}

func cancelled(t *testing.T, x Subject) {
	s := open(t, x)
	first := s.put("a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, last := 0, error(nil)
	for _, err := range s.Watch(ctx, "a", first) {
		if last = err; err == nil {
			seen++
			cancel() // the next turn waits
		}
	}
	if seen != 1 || !errors.Is(last, context.Canceled) {
		t.Errorf("%d updates, then %v", seen, last)
	}
	for _, err := range s.Watch(ctx, "a", first) { // ctx has ended already
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	for range s.Watch(t.Context(), "a", first) {
		break // and the watch leaves nothing behind
	}
	if _, _, err := s.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, _, err := s.List(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v", err)
	}
	if _, err := s.Txn(ctx, store.Txn{Then: []store.Op{store.Put("b", nil)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Txn: %v", err)
	}
	if r, _ := s.get("b"); r.Modified != 0 {
		t.Error("a transaction whose context had ended was applied")
	}
}

func unread(t *testing.T, x Subject) {
	s := open(t, x)
	_, now := s.get("a")
	next := s.watching("a", now+1)
	first := s.put("a", "0")
	wants(t, next(), first, "a=0")
	const more = 300
	for i := range more {
		s.put("a", strconv.Itoa(i))
	}
	for i := range int64(more) {
		wants(t, next(), first+1+i, "a="+strconv.FormatInt(i, 10))
	}
}

// races: several writers each raise one number. Each reads it, and writes under the condition that it has not changed.
func races(t *testing.T, x Subject) {
	s := open(t, x)
	_, now := s.get("n")
	const writers, each = 8, 15
	next := s.watching("n", now+1)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for done := 0; done < each; {
				r, _, err := s.Get(t.Context(), "n")
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(r.Value))
				_, err = s.Txn(t.Context(), store.Txn{
					If: []store.Condition{store.Unchanged(r)}, Then: []store.Op{store.Put("n", []byte(strconv.Itoa(n+1)))},
				})
				switch _, conflict := errors.AsType[*store.ConflictError](err); {
				case err == nil:
					done++
				case !conflict:
					t.Error(err)
					return
				}
			}
		})
	}
	last := int64(0)
	for i := range writers * each {
		u := next()
		if u.Revision <= last || !slices.Equal(show(u), []string{"n=" + strconv.Itoa(i+1)}) {
			t.Fatalf("update %d: revision %d after %d: %v", i, u.Revision, last, show(u))
		}
		last = u.Revision
	}
	all.Wait()
	if r, _ := s.get("n"); string(r.Value) != strconv.Itoa(writers*each) {
		t.Errorf("%d writers each raised it %d times, and it is %s", writers, each, r.Value)
	}
}

// transfers: writers move units between two accounts. The sum is the same at every revision, in reads and in watches.
func transfers(t *testing.T, x Subject) {
	s := open(t, x)
	const units = 10
	first := s.txn(store.Txn{Then: []store.Op{store.Put("acc/a", []byte(strconv.Itoa(units))), store.Put("acc/b", []byte("0"))}})
	sum := func(records []store.KV) (total int) {
		for _, r := range records {
			n, _ := strconv.Atoi(string(r.Value))
			total += n
		}
		return total
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range units {
				records, _, err := s.List(t.Context(), "acc/")
				if err != nil || sum(records) != units {
					t.Errorf("%v: %+v", err, records)
					return
				}
				from, _ := strconv.Atoi(string(records[0].Value))
				to, _ := strconv.Atoi(string(records[1].Value))
				_, err = s.Txn(t.Context(), store.Txn{
					If: []store.Condition{store.Unchanged(records[0]), store.Unchanged(records[1])},
					Then: []store.Op{
						store.Put("acc/a", []byte(strconv.Itoa(from-1))), store.Put("acc/b", []byte(strconv.Itoa(to+1))),
					},
				})
				if _, conflict := errors.AsType[*store.ConflictError](err); err != nil && !conflict {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	_, last := s.get("acc/a")
	next := s.watching("acc/", first)
	for revision := first; revision <= last; revision++ {
		u := next()
		var records []store.KV
		for _, c := range u.Changes {
			records = append(records, c.KV)
		}
		if u.Revision != revision || len(records) != 2 || sum(records) != units {
			t.Errorf("revision %d, want %d: %v", u.Revision, revision, show(u))
		}
	}
}

func leases(t *testing.T, x Subject) {
	s := open(t, x)
	l := s.lease(x.Lease)
	put := func(key string, id store.LeaseID) store.Op { return store.Op{Key: key, Lease: id} }
	began := time.Now()
	rev := s.txn(store.Txn{Then: []store.Op{put("l/a", l.ID()), put("l/b", l.ID()), put("l/kept", l.ID()), put("l/other", 0)}})
	if r, _ := s.get("l/a"); r.Lease != l.ID() || l.ID() == 0 {
		t.Errorf("%+v under lease %d", r, l.ID())
	}
	kept := s.txn(store.Txn{Then: []store.Op{store.Put("l/kept", nil)}}) // without the lease from now on
	next := s.watching("l/", kept+1)
	u := next()
	got := show(u)
	slices.Sort(got)
	if !slices.Equal(got, []string{"-l/a", "-l/b"}) || u.Revision != kept+1 || rev+1 != kept {
		t.Errorf("at the end of a lease: revision %d after %d: %v", u.Revision, kept, got)
	}
	if took := time.Since(began); took < x.Lease || x.FakeClock && took != x.Lease {
		t.Errorf("a lease of %s ended after %s", x.Lease, took)
	}
	if got := s.keys("l/"); !slices.Equal(got, []string{"l/kept", "l/other"}) {
		t.Errorf("%v are left", got)
	}
	if err := l.Renew(t.Context()); !errors.Is(err, store.ErrNoLease) {
		t.Errorf("Renew: %v", err)
	}
	if _, err := s.Txn(t.Context(), store.Txn{Then: []store.Op{store.Put("l/x", nil), put("l/c", l.ID())}}); !errors.Is(err, store.ErrNoLease) {
		t.Errorf("a record under a lease that has ended: %v", err)
	}
	if got := s.keys("l/"); len(got) != 2 {
		t.Errorf("%v are left after a transaction that was refused", got)
	}
}

func renewals(t *testing.T, x Subject) {
	s := open(t, x)
	l := s.lease(x.Lease)
	s.txn(store.Txn{Then: []store.Op{{Key: "a", Lease: l.ID()}}})
	if !x.FakeClock { // exact times would depend on the machine
		if err := errors.Join(l.Renew(t.Context()), l.End(t.Context())); err != nil {
			t.Error(err)
		}
		return
	}
	began := time.Now()
	next := s.watching("a", 2)
	for range 9 {
		<-time.After(x.Lease - time.Millisecond)
		if err := l.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	next()
	if took, want := time.Since(began), 9*(x.Lease-time.Millisecond)+x.Lease; took != want {
		t.Errorf("it ended after %s, want %s", took, want)
	}
}

func ends(t *testing.T, x Subject) {
	s := open(t, x)
	l, other := s.lease(time.Hour), s.lease(time.Hour)
	rev := s.txn(store.Txn{Then: []store.Op{{Key: "a", Lease: l.ID()}, {Key: "b", Lease: other.ID()}}})
	if l.ID() == other.ID() {
		t.Errorf("two leases are %d", l.ID())
	}
	next := s.watching("", rev+1)
	for range 2 {
		if err := l.End(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wants(t, next(), rev+1, "-a")
	if got := s.keys(""); !slices.Equal(got, []string{"b"}) {
		t.Errorf("%v are left", got)
	}
	moved := s.lease(time.Hour)
	s.txn(store.Txn{Then: []store.Op{{Key: "b", Lease: moved.ID()}}})
	if err := other.End(t.Context()); err != nil {
		t.Error(err)
	}
	if got := s.keys(""); !slices.Equal(got, []string{"b"}) {
		t.Errorf("of a record that has another lease by now %v is left", got)
	}
	if err := moved.End(t.Context()); err != nil {
		t.Error(err)
	}
}

// fenced: a leader whose lease has ended writes nothing any more, also if it has not noticed.
func fenced(t *testing.T, x Subject) {
	s := open(t, x)
	elect := func(name string, l store.Lease) (store.Condition, bool) {
		rev, err := s.Txn(t.Context(), store.Txn{
			If: []store.Condition{{Key: "leader"}}, Then: []store.Op{{Key: "leader", Value: []byte(name), Lease: l.ID()}},
		})
		return store.Condition{Key: "leader", Modified: rev}, err == nil
	}
	write := func(leader store.Condition, value string) error {
		_, err := s.Txn(t.Context(), store.Txn{If: []store.Condition{leader}, Then: []store.Op{store.Put("assign/1/x", []byte(value))}})
		return err
	}
	first, second := s.lease(x.Lease), s.lease(time.Hour)
	one, won := elect("one", first)
	if _, twice := elect("two", second); !won || twice {
		t.Fatalf("the first: %t, the second: %t", won, twice)
	}
	if err := write(one, "one"); err != nil {
		t.Error(err)
	}
	if got := show(s.watching("leader", one.Modified+1)()); !slices.Equal(got, []string{"-leader"}) { // the first renews nothing
		t.Fatal(got)
	}
	two, won := elect("two", second)
	if !won {
		t.Fatal("the second is not elected")
	}
	if err := write(one, "late"); err == nil {
		t.Error("a former leader has written")
	}
	if err := write(two, "two"); err != nil {
		t.Error(err)
	}
	if r, _ := s.get("assign/1/x"); string(r.Value) != "two" {
		t.Errorf("%s", r.Value)
	}
	if err := second.End(t.Context()); err != nil {
		t.Error(err)
	}
}
