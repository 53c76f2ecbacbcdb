package system

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/graph"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/node"
)

// closeTime bounds the end of a system whose start has failed.
const closeTime = 30 * time.Second

// own is an application of the executable of a durable node.
type own struct {
	app *graph.App
	def deploy.App
}

// runDurable is Run for the node of a keeper. Its applications are those of the state directory, and beside them the one of build, nil for none, and
// the others of the configuration. All are known before the node restores: each goes on as the node before had it. The node accepts no requests yet.
func (s *System) runDurable(ctx context.Context, d *node.Durable, set node.Settings, build Build) (*System, error) {
	set.Program.Args = nil // those of this process are a command of the keeper, which workers do not use
	var all []own
	for _, b := range append([]Build{build}, s.config.Others...) {
		if b == nil {
			continue
		}
		app, def, err := s.prepare(ctx, b)
		if err == nil {
			err = def.Check(set.Program)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, own{app, def})
	}
	var err error
	c := s.config
	if c.HTTPOptions.TLS != (listen.Files{}) {
		if set.Certificate, err = listen.NewCertificate(c.HTTPOptions.TLS, c.Logger); err != nil {
			return nil, fmt.Errorf("HTTPOptions: TLS.%w", err)
		}
	}
	set.Own = func(name string) (deploy.App, error) {
		for _, o := range all {
			if o.app.Name == name {
				return bound(d.Node(), o.app, o.def), nil
			}
		}
		return deploy.App{}, errors.New("its code was in an executable that does not contain it now")
	}
	s.Node, err = d.Open(set, cmp.Or(c.WorkerGrace, defaultGrace))
	w := d.Keeper.Welcome()
	for _, o := range all {
		if err == nil {
			err = s.startOwn(ctx, o.app, o.def, w.Ran && !w.Upgrade)
		}
	}
	if err == nil {
		return s, nil
	}
	if s.Node != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		err = errors.Join(err, s.Node.Close(closing))
	}
	return nil, err
}

// startOwn deploys the application of the executable, unless the node before had it and it was restored. again says that this node follows one that was
// killed: an application that was deleted since, or has other code, stays so.
func (s *System) startOwn(ctx context.Context, app *graph.App, def deploy.App, again bool) error {
	if now, _, there := s.Node.Deployed(app.Name, 0); !there || now.Home != app {
		if again {
			return nil
		}
		return s.start(ctx, app, def, true)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[app.Name] = app
	return nil
}
