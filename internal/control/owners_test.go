package control_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helve-serve/helve/internal/claim"
	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/deploy"
)

// TestOwners: an application of tasks or actors is deleted when the last driver has gone that has deployed it so; others stay.
func TestOwners(t *testing.T) {
	t.Parallel()
	owners, n := new(control.Owners), &node{}
	request := func(d *control.Driver, op, body string) {
		t.Helper()
		d.Control(t.Context(), op, json.RawMessage(body)) //nolint:errcheck // a delete is an error of this node
	}
	first, second := control.NewDriver(n, owners, new(claim.Claims)), control.NewDriver(n, owners, new(claim.Claims))
	tasks := `{"app":{"name":"tasks","ingress":"D","deployments":[{"name":"D","class":"m:D"}],"ends_with_driver":true}}`
	actor := `{"app":{"name":"actor","ingress":"D","deployments":[{"name":"D","class":"m:D"}],"ends_with_driver":true}}`
	request(first, "deploy", tasks)
	request(second, "deploy", tasks)
	request(first, "deploy", actor)
	request(first, "deploy", `{"app":{"name":"stays","ingress":"D","deployments":[{"name":"D","class":"m:D"}]}}`)
	if got := first.End(); !cmp.Equal(got, []string{"actor"}) {
		t.Errorf("the first has gone: %q", got)
	}
	if got := second.End(); !cmp.Equal(got, []string{"tasks"}) {
		t.Errorf("the second has gone: %q", got)
	}
	third := control.NewDriver(n, owners, new(claim.Claims))
	request(third, "deploy", actor)
	request(second, "delete", `{"name":"actor"}`)
	if got := third.End(); len(got) > 0 {
		t.Errorf("the application was deleted before: %q", got)
	}
}

// deletions is a node whose deploy ends after its driver has gone.
type deletions struct {
	node
	gone func()
}

func (n *deletions) Deploy(context.Context, deploy.App) error {
	n.gone()
	return nil
}

func (n *deletions) Delete(_ context.Context, app string) error {
	n.asked += "delete " + app
	return nil
}

// TestOwnerIsGoneEarly: a driver has gone while the application was not in the store yet; it is deleted all the same.
func TestOwnerIsGoneEarly(t *testing.T) {
	t.Parallel()
	n := &deletions{}
	d := control.NewDriver(n, new(control.Owners), new(claim.Claims))
	ctx, cancel := context.WithCancel(t.Context())
	n.gone = func() {
		cancel()
		d.End()
	}
	d.Control(ctx, "deploy", json.RawMessage(`{"app":{"name":"actor","ingress":"D","deployments":[{"name":"D","class":"m:D"}],"ends_with_driver":true}}`)) //nolint:errcheck // nothing reads it
	if n.asked != "delete actor" {
		t.Errorf("%q", n.asked)
	}
}
