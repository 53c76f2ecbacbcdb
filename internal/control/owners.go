package control

import (
	"context"
	"slices"
	"sync"
)

// Owners are the connections that applications belong to which end with their drivers: the tasks and actors of programs for Ray. An application of tasks may have several. For
// example, two programs run tasks in the same environment: the application goes on when the first of them is killed, and ends with the second. The zero value is ready for use.
type Owners struct {
	mu sync.Mutex
	of map[string][]*Driver // by application
}

// add notes that an application belongs to a driver too.
func (o *Owners) add(app string, d *Driver) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.of = map[string][]*Driver{}
	}
	if !slices.Contains(o.of[app], d) {
		o.of[app] = append(o.of[app], d)
	}
}

// forget notes that an application was deleted: another one of the name has other owners.
func (o *Owners) forget(app string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.of, app)
}

// owned says if an application has an owner.
func (o *Owners) owned(app string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.of[app]) > 0
}

// End is called when the connection of the driver has ended. It returns the applications that have no other owner: they are to be deleted.
func (d *Driver) End() (apps []string) {
	o := d.owners
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

// deployOwned deploys an application that ends with the driver. A driver that is killed may have gone before the store has the application, and End has found nothing to
// delete then.
func (d *Driver) deployOwned(ctx context.Context, app string, deploy func() error) error {
	d.owners.add(app, d)
	err := deploy()
	if err == nil && ctx.Err() != nil && !d.owners.owned(app) {
		return d.node.Delete(context.WithoutCancel(ctx), app)
	}
	return err
}
