package builder

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/spec"
)

// Describe builds applications of import paths, for a file that [config.Write] makes. One application has the name app1 and the path /, several are app1 at /app1 and
// so on, as in Ray Serve. The error has all applications that cannot be built.
func Describe(ctx context.Context, e Environment, paths []string, s Settings) ([]config.Built, error) {
	apps, all, errs := make([]App, len(paths)), make([]config.Built, len(paths)), make([]error, len(paths))
	for i, path := range paths {
		name, prefix := fmt.Sprintf("app%d", i+1), "/"
		if len(paths) > 1 {
			prefix = "/" + name
		}
		if !strings.Contains(path, ":") { // a dotted path, as Ray Serve has it
			if at := strings.LastIndexByte(path, '.'); at > 0 {
				path = path[:at] + ":" + path[at+1:]
			}
		}
		apps[i], all[i] = App{Name: name, ImportPath: path, RoutePrefix: &prefix}, config.Built{Name: name, RoutePrefix: prefix, ImportPath: path}
	}
	Build(ctx, e, apps, s, func(i int, b *Built, err error) {
		if err != nil {
			errs[i] = err
			return
		}
		for _, d := range b.App.Deployments {
			if d.Go != nil { // its options are those of its executable
				continue
			}
			var o spec.Options
			if len(d.Options) > 0 {
				if o, err = o.Merge(d.Options, spec.FromCode); err != nil {
					errs[i] = fmt.Errorf("%s: deployment %q: %w", apps[i].ImportPath, d.Name, err)
					return
				}
			}
			all[i].Deployments = append(all[i].Deployments, config.BuiltDeployment{Name: d.Name, Options: o})
		}
	})
	return all, errors.Join(errs...)
}
