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
	s.Node, err = d.Open(ctx, set, cmp.Or(c.WorkerGrace, defaultGrace))
	if err == nil && build != nil {
		err = s.start(ctx, app, def, true)
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
