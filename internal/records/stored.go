package records

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/spec"
	"github.com/helve-serve/helve/internal/store"
)

// Stored is an application as a node before this one has left it in the store.
type Stored struct {
	App    string
	Deploy *Deploy // of the revision that should run, which may be [Deploy.Unended]
	From   int     // the revision that ran before; 0 for none
}

// Stored lists the applications of the store, by name. The error is about applications whose record cannot be read; the others are listed all the
// same.
func (t *Target) Stored(ctx context.Context) ([]Stored, error) {
	apps, _, bad := store.List(ctx, t.Store, store.Apps())
	scales, _, err := store.List(ctx, t.Store, store.Scales(""))
	bad = errors.Join(bad, err)
	numbers := map[string]map[string]Scale{}
	for _, s := range scales {
		key, err := store.ParseKey(s.Key)
		if err != nil || s.Record.Replicas > spec.MaxReplicas {
			continue // Follow says so
		}
		if numbers[key.App] == nil {
			numbers[key.App] = map[string]Scale{}
		}
		numbers[key.App][key.Deployment] = Scale{s.Record, s.Modified}
	}
	all := make([]Stored, 0, len(apps))
	for _, a := range apps {
		key, err := store.ParseKey(a.Key)
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		w := &Deploy{Number: int(a.Record.Revision), Modified: a.Modified, Scales: numbers[key.App], overrides: a.Record.Overrides, before: a, from: int(a.Record.Before)}
		w.Rollout, w.Watch, w.Restarting = Rollout{a.Record.Paused, a.Record.Step, a.Record.Since}, a.Record.Watch, a.Record.Restarting
		w.outcomes = a.Record.Outcomes
		if r, err := store.Get(ctx, t.Store, store.RevisionKey(key.App, a.Record.Revision)); err == nil {
			w.keep, w.Repeats = r.Record.Keep, r.Record.RollbackOf
		}
		w.Configs, err = t.configs(key.App, w.overrides)
		bad = errors.Join(bad, err)
		if ch := a.Record.Attempt; ch != nil {
			w.unended, w.before = true, store.Stored[store.App]{}
			if w.from != 0 {
				w.before = store.Stored[store.App]{KV: a.KV, Record: store.App{Revision: a.Record.Before, Overrides: ch.Overrides}}
			}
			revision, _, err := t.Store.Get(ctx, store.RevisionKey(key.App, a.Record.Revision).String())
			bad = errors.Join(bad, err)
			if err == nil && revision.Modified != 0 {
				w.Scales, err = t.complete(ctx, key.App, w.Number, ch, revision, w.Scales)
				bad = errors.Join(bad, err)
			}
			w.changed = changes(ch, w.Number, revision.Modified, w.Scales)
		}
		revisions, err := t.Revisions(ctx, key.App)
		bad = errors.Join(bad, err)
		w.Last = slices.Max(append(revisions, w.Number))
		all = append(all, Stored{key.App, w, w.from})
	}
	return all, bad
}

// changes are the numbers of replicas that the deploy of a change has set: the records that it wrote with its revision or after that, and
// that no other writer has changed since. For example, a deploy sets 3 in the place of 2, and Scale sets 5 before the node is killed: 5 stays if the deploy is undone. The autoscaler is no
// other writer: see [changedScale.back].
func changes(ch *store.Attempt, number int, wrote int64, now map[string]Scale) map[string]changedScale {
	all := map[string]changedScale{}
	for name, before := range ch.Scales {
		s := now[name]
		if own := s.Record.By == ByDeploy && s.Record.Reason == setBy(number) || s.Record.By == store.ByAutoscaler; s.Modified == wrote || s.Modified > wrote && own {
			all[name] = changedFrom(before, s)
		}
	}
	for name, before := range ch.Kept {
		if s := now[name]; before != nil && (s.Record.By == store.ByAutoscaler || sameNumber(s.Record, *before)) {
			c := changedFrom(before, s)
			c.kept = true
			all[name] = c
		}
	}
	return all
}

// changedFrom is a number that the deploy of a node before has set, or left: before is the number before it, nil for none.
func changedFrom(before *store.Scale, now Scale) changedScale {
	c := changedScale{modified: now.Modified, wrote: now.Record}
	if before != nil {
		c.before = store.Stored[store.Scale]{KV: store.KV{Modified: now.Modified}, Record: *before}
	}
	return c
}

// complete writes the numbers of replicas that a deploy has not written any more, because its node was killed between two transactions. They are older than the record of
// its revision. For example, a deploy sets 150 numbers from 2 to 3. The first transaction has the record of the application, that of the revision, and 98 numbers; the node is
// killed before the second one, and 52 numbers are 2. It gives the numbers as they are then.
func (t *Target) complete(ctx context.Context, app string, number int, ch *store.Attempt, revision store.KV, now map[string]Scale) (map[string]Scale, error) {
	missing := func(name string) bool { return now[name].Modified < revision.Modified }
	if !slices.ContainsFunc(slices.Collect(maps.Keys(ch.Scales)), missing) {
		return now, nil
	}
	g, err := t.graphOf(revision)
	if err != nil {
		return now, err
	}
	next := map[string]Scale{}
	maps.Copy(next, now)
	var writes []write
	for _, d := range g.Deployments {
		if _, set := ch.Scales[d.Name]; !set || !missing(d.Name) {
			continue
		}
		s := store.Scale{Replicas: d.Options.Effective().StartReplicas(), By: ByDeploy, Reason: setBy(number), At: time.Now().UTC()}
		key := store.ScaleKey(app, d.Name)
		op, err := store.Encode(key, s)
		if err != nil {
			return now, err
		}
		writes, next[d.Name] = append(writes, write{op, store.Condition{Key: op.Key, Modified: now[d.Name].Modified}}), Scale{Record: s}
	}
	modified, err := t.commit(ctx, writes)
	if err != nil {
		return now, err
	}
	for name, s := range next {
		if m := modified[store.ScaleKey(app, name).String()]; m != 0 {
			s.Modified = m
			next[name] = s
		}
	}
	return next, nil
}

// Before has the records of the revision before a deploy that has not ended. Its user configs are read from the blobs of t.
func (s *Stored) Before(t *Target) *Deploy {
	was := s.Deploy.before.Record.Overrides
	configs, err := t.configs(s.App, was)
	if err != nil {
		t.Log.Error("a user config that was set in place is lost: that of the revision is used", "app", s.App, "error", err)
	}
	return &Deploy{
		Number: s.From, Last: s.Deploy.Last, Modified: s.Deploy.Modified, Scales: s.Deploy.Scales, Configs: configs, overrides: was, before: s.Deploy.before, next: s.Deploy,
		outcomes: s.Deploy.outcomes, keep: s.Deploy.keep, Restarting: s.Deploy.Restarting,
	}
}

// NoRevisionError is the error of [Target.Revision] for a number that no revision has, or whose revision was let go.
type NoRevisionError struct {
	App    string
	Number int
	Kept   []int // the revisions that there are
}

func (e *NoRevisionError) Error() string {
	text := fmt.Sprintf("application %q has no revision %d", e.App, e.Number)
	switch n := len(e.Kept); n {
	case 0:
		return text
	case 1:
		return fmt.Sprintf("%s; it has %d", text, e.Kept[0])
	default:
		if e.Number > 0 && e.Number < e.Kept[n-1] {
			text += " any more"
		}
		parts := make([]string, 0, n)
		for i := 0; i < n; { // each part is a number, or numbers without a gap
			last := i
			for last+1 < n && e.Kept[last+1] == e.Kept[last]+1 {
				last++
			}
			part := strconv.Itoa(e.Kept[i])
			if last > i {
				part += " to " + strconv.Itoa(e.Kept[last])
			}
			parts, i = append(parts, part), last+1
		}
		return text + "; it has " + strings.Join(parts, ", ")
	}
}

// Revision reads a revision of an application. Its graph is in the record, also if the store has it beside.
func (t *Target) Revision(ctx context.Context, app string, number int) (r store.Revision, err error) {
	stored, err := store.Get(ctx, t.Store, store.RevisionKey(app, uint64(number)))
	if err == nil && stored.Modified == 0 {
		kept, _ := t.Revisions(ctx, app) // they are for the text alone
		err = &NoRevisionError{app, number, kept}
	}
	if err != nil {
		return r, err
	}
	r = stored.Record
	r.Graph, err = t.graph(r)
	return r, err
}

// Revisions are the numbers of the revisions of an application that the store has, the oldest first.
func (t *Target) Revisions(ctx context.Context, app string) (numbers []int, err error) {
	kvs, _, err := t.Store.List(ctx, store.Revisions(app).String())
	if err != nil {
		return nil, err
	}
	for _, kv := range kvs {
		if key, err := store.ParseKey(kv.Key); err == nil {
			numbers = append(numbers, int(key.Revision))
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}
