package router

// leaving is the part of the models of a router that knows of replicas which leave the set while another replica loads their models.
//
// For example, only R1 has the model fr, and stops; R2 stays. [Router.Leave] keeps R1 for the calls with fr, and all others go to R2 from then on. R2 is asked to load fr, and says at once
// that it is loading it: [Router.Coming] hides that, because a call that went there now would wait for the load. When R2 has loaded fr, [Router.Left] sends the calls with fr to R2.
type leaving struct {
	keeps  map[Replica]map[string]bool // the models for which each replica that leaves still takes calls
	coming map[string]Replica          // the replica that loads a model ahead of its calls
}

// takesLocked says whether a replica that has the model may get calls for it.
func (m *models) takesLocked(id string, rep Replica) bool {
	if len(m.leaving.keeps) == 0 && len(m.leaving.coming) == 0 {
		_, in := m.place[rep]
		return in
	}
	if m.leaving.keeps[rep][id] {
		return true
	}
	_, in := m.place[rep]
	return in && m.leaving.coming[id] != rep
}

// Leave says that a replica is about to leave the set, and keeps it for the calls with those of its models that no replica has for which stays is true. It returns these models; each of them
// ends with a [Router.Left]. It delivers no call, and is called before the Update without the replica. It keeps nothing of a replica that is not in the set, because the replica is not ready, for example, and nothing under a policy: the policy decides which replica a model's calls go to.
func (r *Router) Leave(rep Replica, ids []string, stays func(Replica) bool) (kept []string) {
	if r.policy.Load() != nil {
		return nil
	}
	m := &r.models
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, in := m.place[rep]; !in {
		return nil
	}
	for _, id := range ids {
		has := false
		for _, other := range m.holders[id] {
			// A model that another replica keeps is moved by that one.
			has = has || other != rep && (stays(other) || m.leaving.keeps[other][id])
		}
		if has {
			continue
		}
		if m.leaving.keeps == nil {
			m.leaving = leaving{map[Replica]map[string]bool{}, map[string]Replica{}}
		}
		if m.leaving.keeps[rep] == nil {
			m.leaving.keeps[rep] = map[string]bool{}
		}
		m.leaving.keeps[rep][id] = true
		kept = append(kept, id)
	}
	return kept
}

// Coming says that a replica begins to load a model that another one keeps. It gets no calls for it until [Router.Left].
func (r *Router) Coming(id string, to Replica) {
	r.models.mu.Lock()
	defer r.models.mu.Unlock()
	r.models.leaving.coming[id] = to
}

// Left ends the time of [Router.Leave] for one model: the replica rep gets no calls for the model any more. The replica to has loaded the model; nil: no replica has, and the next call is routed as for a new model.
func (r *Router) Left(rep Replica, id string, to Replica) {
	r.models.left(rep, id, to)
	r.refresh(nil, id)
}

func (m *models) left(rep Replica, id string, to Replica) {
	if to != nil { // its report may be on the way
		m.expect(id, to)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.leaving.coming, id)
	delete(m.leaving.keeps[rep], id)
	if len(m.leaving.keeps[rep]) > 0 {
		return
	}
	delete(m.leaving.keeps, rep)
	if _, in := m.place[rep]; !in {
		m.dropLocked(rep)
	}
}

// keeps says whether a replica that leaves takes calls for a model.
func (m *models) keeps(rep Replica, id string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.leaving.keeps[rep][id]
}
