package control

import (
	"context"

	"github.com/helve-serve/helve/internal/owners"
)

// Owners are the drivers of a node that its applications end with. The zero value is ready for use.
type Owners = owners.Owners[*Driver]

// End is called when the connection of the driver has ended. It returns the applications that have no other owner: they are to be deleted.
func (d *Driver) End() (apps []string) { return d.owners.End(d) }

// deployOwned deploys an application that ends with the driver. A driver that is killed may have gone before the store has the application, and End has found nothing to
// delete then.
func (d *Driver) deployOwned(ctx context.Context, app string, deploy func() error) error {
	d.owners.Add(app, d)
	err := deploy()
	if err == nil && ctx.Err() != nil && !d.owners.Owned(app) {
		return d.node.Delete(context.WithoutCancel(ctx), app)
	}
	return err
}
