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

// runDurable is Run for the node of a keeper. Its applications are those of the state directory, and beside them the one of build; nil for none. The
// node accepts no requests yet: a program with several applications deploys the others first.
func (s *System) runDurable(ctx context.Context, d *node.Durable, set node.Settings, build Build) (*System, error) {
	var app *graph.App
	var def deploy.App
	var err error
	if build != nil {
		if app, def, err = s.prepare(ctx, build); err == nil {
			err = def.Check(set.Program)
		}
		if err != nil {
			return nil, err
		}
	}
	c := s.config
	if c.HTTPOptions.TLS != (listen.Files{}) {
		if set.Certificate, err = listen.NewCertificate(c.HTTPOptions.TLS, c.Logger); err != nil {
			return nil, fmt.Errorf("HTTPOptions: TLS.%w", err)
		}
	}
	set.Own = func(name string) (deploy.App, error) {
		if app == nil || app.Name != name {
			return deploy.App{}, errors.New("its code was in an executable that does not contain it now, or that deploys it later")
		}
		return bound(d.Node(), app, def), nil
	}
	s.Node, err = d.Open(set, cmp.Or(c.WorkerGrace, defaultGrace))
	if err == nil && build != nil {
		err = s.startOwn(ctx, app, def)
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

// startOwn deploys the application of the executable, unless the node before had it and it was restored.
func (s *System) startOwn(ctx context.Context, app *graph.App, def deploy.App) error {
	if now, _, there := s.Node.Deployed(app.Name, 0); !there || now.Home != app {
		return s.start(ctx, app, def, true)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[app.Name] = app
	return nil
}
