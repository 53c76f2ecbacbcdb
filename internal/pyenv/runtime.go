package pyenv

import (
	"context"
	"fmt"
	"path/filepath"
)

// Runtime describes the runtime_env of a deployment: its packages, and directories or archives with its modules.
type Runtime struct {
	Request             // Dir is the current directory, unless there is a WorkingDir
	WorkingDir string   // directory or archive; "" for none
	PyModules  []string // directories, modules or archives
}

// Place has the parts of the start of a worker that its runtime_env decides.
type Place struct {
	Interpreter string
	Dir         string   // current directory
	Own         []string // directories with modules of the deployment's own: working_dir, py_modules
	Site        []string // directories with packages that pip has installed
}

// Empty reports whether nothing has to be prepared.
func (r *Runtime) Empty() bool {
	return r.WorkingDir == "" && len(r.PyModules) == 0 && len(r.Packages) == 0
}

// Place is the place of a worker for which nothing has to be prepared.
func (r *Runtime) Place() Place { return Place{Interpreter: r.Interpreter, Dir: r.Dir} }

// Prepare unpacks the archives and installs the packages of a runtime_env, unless that was done before. installs is told when packages are
// being installed, until the function that it returns is called. For example, a runtime_env with the working_dir app.zip and the package
// torch: app.zip is unpacked, which is the current directory and the first of Own, and pip installs torch, whose directory is in Site.
func (c *Cache) Prepare(ctx context.Context, r Runtime, installs func() (done func())) (Place, error) {
	p := r.Place()
	if r.WorkingDir != "" {
		dir, err := c.directory(ctx, r.WorkingDir)
		if err != nil {
			return p, fmt.Errorf("working_dir: %w", err)
		}
		p.Dir, p.Own = dir, append(p.Own, dir)
	}
	for _, m := range r.PyModules {
		dir, err := c.modules(ctx, m)
		if err != nil {
			return p, fmt.Errorf("py_modules: %w", err)
		}
		p.Own = append(p.Own, dir)
	}
	if len(r.Packages) == 0 {
		return p, nil
	}
	r.Dir = p.Dir
	env, err := c.Ensure(ctx, r.Request, installs)
	if err != nil {
		return p, fmt.Errorf("%s: %w", Describe(r.Packages), err)
	}
	p.Interpreter, p.Site = env.Interpreter, env.Site
	return p, nil
}

// directory is the directory that an option names, or has as an archive.
func (c *Cache) directory(ctx context.Context, path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil || !IsArchive(path) {
		return path, err
	}
	return c.Unpack(ctx, path)
}

// modules is the directory in which import finds the modules of one entry of py_modules: the modules of an archive, or a package or module alone.
func (c *Cache) modules(ctx context.Context, path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if IsArchive(path) {
		return c.Unpack(ctx, path)
	}
	return c.Link(path)
}
