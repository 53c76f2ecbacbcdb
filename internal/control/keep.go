package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/deploy"
	"github.com/helve-serve/helve/internal/pack"
	"github.com/helve-serve/helve/internal/protocol"
)

// keep packs the files of a program that a durable node needs when it starts the program's replicas again: the directories of its own modules and of
// its runtime_envs. The application runs from the packed files, so that a roll-back restores the code, not the path. A directory that cannot be packed is left
// where it is, and the reply to the driver says so: for example, one with models of 20 GB beside the script. notices are warnings of directories that are kept. put is [Node.Keep], or
// [Node.WouldKeep] for a plan.
func keep(ctx context.Context, n Node, put func(context.Context, string, []pack.Excludes) (pack.Packed, string, error), app *deploy.App, own []string) (left []protocol.Left, notices []string, err error) {
	if !n.Durable() {
		return nil, nil, nil
	}
	paths := slices.Clone(own)
	for _, d := range app.Graph.Deployments {
		if d.Language == "python" {
			paths = append(append(paths, d.Options.Dir), d.Options.PyModules...)
		}
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		if path == "" || strings.Contains(path, "://") { // the second is a mistake, which the deploy finds
			continue
		}
		kept, notice, err := put(ctx, path, excludes(app, path, slices.Contains(own, path)))
		_, large := errors.AsType[*pack.TooLargeError](err)
		_, unsuitable := errors.AsType[*pack.UnsuitableError](err)
		switch {
		case err == nil:
			app.Python.Packed = append(app.Python.Packed, kept)
			if notice != "" {
				notices = append(notices, notice)
			}
		case large || unsuitable || errors.Is(err, fs.ErrPermission):
			left = append(left, protocol.Left{Path: path, Why: err.Error()})
		case !errors.Is(err, fs.ErrNotExist): // an entry of sys.path need not be there
			err = fmt.Errorf("the node cannot keep %s: %w", path, err)
			n.NoteUnstored(app.Graph.App, err)
			return left, notices, err
		}
	}
	return left, notices, nil
}

// excludes are the patterns of the deployments that share a path: each, in Python, of a directory of the program's own modules, else those with the path in their
// runtime_env. For example, deployments A and B have the working_dir /srv/shop, and A alone excludes "*.bin": B may read these files, so they are kept.
func excludes(app *deploy.App, path string, own bool) (all []pack.Excludes) {
	for _, d := range app.Graph.Deployments {
		if o := d.Options; d.Language == "python" && (own || o.Dir == path || slices.Contains(o.PyModules, path)) {
			all = append(all, pack.NewExcludes(o.Excludes))
		}
	}
	return all
}
