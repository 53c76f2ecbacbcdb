// Package agenda says at which parts of a whole the loop of its owner has to look, and when. It is pure. For example, an application of a thousand deployments
// has one of them scaled: the loop looks at that one, and a second later again, because its next start is delayed until then.
package agenda

import "time"

// Agenda is for one whole whose parts have keys. Its owner guards it. The zero Agenda has nothing to look at.
type Agenda[K comparable] struct {
	all     bool
	changed map[K]bool
	waiting map[K]bool
	wakes   map[K]time.Time
	wake    time.Time
}

// ChangeAll notes a change that may concern every part.
func (a *Agenda[K]) ChangeAll() { a.all = true }

// Change notes a change of a part.
func (a *Agenda[K]) Change(k K) { put(&a.changed, k, true) }

// Wait notes that a part waits for others: it is looked at with each that changes.
func (a *Agenda[K]) Wait(k K) { put(&a.waiting, k, true) }

// Wake notes when a part has to be looked at although nothing has changed; zero for no such time.
func (a *Agenda[K]) Wake(k K, at time.Time) {
	if !at.IsZero() {
		put(&a.wakes, k, at)
	}
}

// WakeAll is Wake for the whole.
func (a *Agenda[K]) WakeAll(at time.Time) { a.wake = at }

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// Next is the earliest of the times of [Agenda.Wake] and [Agenda.WakeAll]; zero for none.
func (a *Agenda[K]) Next() time.Time {
	first := a.wake
	for _, at := range a.wakes {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// Due says that something has to be looked at now.
func (a *Agenda[K]) Due(now time.Time) bool {
	next := a.Next()
	return a.all || len(a.changed) > 0 || !next.IsZero() && !next.After(now)
}

// Take gives the parts that have to be looked at now, in no order, and takes them off the agenda; the owner notes anew whether they wait, and for when. With all
// it has to look at every part, and the agenda is empty. The argument whole asks for that.
func (a *Agenda[K]) Take(now time.Time, whole bool) (of []K, all bool) {
	if whole || a.all || !a.wake.IsZero() && !a.wake.After(now) {
		*a = Agenda[K]{}
		return nil, true
	}
	for k, at := range a.wakes {
		if !at.After(now) {
			a.Change(k)
		}
	}
	if len(a.changed) == 0 {
		return nil, false
	}
	for k := range a.waiting {
		a.Change(k)
	}
	for k := range a.changed {
		of = append(of, k)
		delete(a.wakes, k)
	}
	a.changed, a.waiting = nil, nil
	return of, false
}
