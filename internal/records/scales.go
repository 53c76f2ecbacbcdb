package records

import "github.com/helve-serve/helve/internal/store"

// Scales are the numbers of replicas as last seen in the store. Its owner guards it. The zero value is empty.
//
// Numbers of one record may arrive late, from the watch, after the operation that wrote a newer one: the newest counts. While a deploy writes the records
// of an application its numbers wait, because they are for the revision that comes: else a deploy from 1 to 3 replicas would start two more of
// the revision that is about to go.
type Scales struct {
	all     map[string]Scale // by the keys of their records
	writing string           // the application whose records a deploy writes; "" for none
	arrived []string         // its deployments whose numbers arrived meanwhile
}

// Of is the number of a deployment, zero if there is none.
func (s *Scales) Of(app, deployment string) Scale {
	return s.all[store.ScaleKey(app, deployment).String()]
}

// Set notes a number. It returns false if nothing is to be changed now: a newer one is known, or a deploy writes the records.
func (s *Scales) Set(app, deployment string, n Scale) bool {
	key := store.ScaleKey(app, deployment).String()
	if s.all[key].Modified >= n.Modified {
		return false
	}
	if s.all == nil {
		s.all = map[string]Scale{}
	}
	s.all[key] = n
	if s.writing == app {
		s.arrived = append(s.arrived, deployment)
		return false
	}
	return true
}

// Hold begins the time in which a deploy writes the records of an application.
func (s *Scales) Hold(app string) { s.writing = app }

// Free ends that time. The deployments are the ones whose numbers have arrived meanwhile.
func (s *Scales) Free() (app string, deployments []string) {
	app, deployments = s.writing, s.arrived
	s.writing, s.arrived = "", nil
	return app, deployments
}

// Forget is for a record that was deleted by a revision of the store.
func (s *Scales) Forget(key string, modified int64) {
	if s.all[key].Modified < modified {
		delete(s.all, key)
	}
}
