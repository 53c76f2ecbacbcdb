package instance

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Models are the models of one loader of a replica. Their methods may be called from any goroutine.
type Models interface {
	// Unused is, for each loaded model, the time since its last use; 0 for a model in use.
	Unused() map[string]time.Duration
	// LoadAhead loads a model before a call asks for it. unused is the time since its last use at another replica.
	LoadAhead(ctx context.Context, id string, unused time.Duration) error
}

// Loader is one loader of models of a replica. A replica may have several, each with models of its own.
type Loader struct {
	// Name is the same for the same loader of another replica: the kind of the models, and the number of the loader among those with the kind, in the order
	// in which the constructor made them. For example, a replica with two kinds of models has the loaders "main.Weights/0", "main.Weights/1" and "main.Voice/0".
	Name  string
	scope *Scope
	kind  string

	models Models   // guarded by Scope.mu, as ids is
	ids    []string // of the models that the loader has or is loading
}

// AddLoader adds a loader of models of a kind.
func (s *Scope) AddLoader(kind string) *Loader {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := 0
	for _, other := range s.loaders {
		if other.kind == kind {
			number++
		}
	}
	l := &Loader{Name: fmt.Sprintf("%s/%d", kind, number), scope: s, kind: kind}
	s.loaders = append(s.loaders, l)
	return l
}

// Has gives the loader its models.
func (l *Loader) Has(m Models) {
	l.scope.mu.Lock()
	defer l.scope.mu.Unlock()
	l.models = m
}

// SetIDs says which models the loader has or is loading.
func (l *Loader) SetIDs(ids []string) {
	l.scope.mu.Lock()
	l.ids = ids
	l.scope.mu.Unlock()
	l.scope.tell()
}

// tell tells the models of all loaders. The models are read under telling, so the last call of told has the last state.
func (s *Scope) tell() {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	var ids []string
	for _, l := range s.loaders {
		ids = append(ids, l.ids...)
	}
	told := s.told
	s.mu.Unlock()
	if told != nil {
		slices.Sort(ids)
		told(slices.Compact(ids))
	}
}

// WatchModels tells f the models now, if there are any, and after every change.
func (s *Scope) WatchModels(f func([]string)) {
	s.mu.Lock()
	s.told = f
	has := slices.ContainsFunc(s.loaders, func(l *Loader) bool { return len(l.ids) > 0 })
	s.mu.Unlock()
	if has {
		s.tell()
	}
}

// Loaded are the models that a loader has loaded.
type Loaded struct {
	Loader string
	Unused map[string]time.Duration // the time since the last use of each, by its id
}

// LoadedModels are the models that the replica has loaded.
func (s *Scope) LoadedModels() (all []Loaded) {
	for name, m := range s.loadersByName() {
		all = append(all, Loaded{name, m.Unused()})
	}
	return all
}

// LoadModel has a loader load a model before a call asks for it: see [Models]. found is false if the replica has no such loader.
func (s *Scope) LoadModel(ctx context.Context, loader, id string, unused time.Duration) (found bool, err error) {
	m := s.loadersByName()[loader]
	if m == nil {
		return false, nil
	}
	return true, m.LoadAhead(ctx, id, unused)
}

// loadersByName are the models of each loader that has some. User code may run in their methods, so mu is not held then.
func (s *Scope) loadersByName() map[string]Models {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]Models, len(s.loaders))
	for _, l := range s.loaders {
		if l.models != nil {
			all[l.Name] = l.models
		}
	}
	return all
}
