// Package owners knows which applications end with the drivers that have deployed them: the tasks and actors of programs for Ray.
package owners

import (
	"slices"
	"sync"
)

// Owners are the connections that applications belong to which end with their drivers. An application of tasks may have several. For
// example, two programs run tasks in the same environment: the application goes on when the first of them is killed, and ends with the second. D is a driver. The zero value
// is ready for use. Its methods may be called from any goroutine.
type Owners[D comparable] struct {
	mu sync.Mutex
	of map[string][]D // by application
}

// Add notes that an application belongs to a driver too.
func (o *Owners[D]) Add(app string, d D) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.of = map[string][]D{}
	}
	if !slices.Contains(o.of[app], d) {
		o.of[app] = append(o.of[app], d)
	}
}

// Forget notes that an application was deleted: another one of the name has other owners.
func (o *Owners[D]) Forget(app string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.of, app)
}

// Owned says if an application has an owner.
func (o *Owners[D]) Owned(app string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.of[app]) > 0
}

// End notes that the connection of a driver has ended. It returns the applications that have no other owner, by name: they are to be deleted.
func (o *Owners[D]) End(d D) (apps []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for app, drivers := range o.of {
		i := slices.Index(drivers, d)
		if i < 0 {
			continue
		}
		if drivers = slices.Delete(drivers, i, i+1); len(drivers) > 0 {
			o.of[app] = drivers
			continue
		}
		delete(o.of, app)
		apps = append(apps, app)
	}
	slices.Sort(apps)
	return apps
}
