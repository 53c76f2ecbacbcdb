package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/spec"
)

// Check lists what of an application is wrong that can be seen without starting anything: its route, and the executables and
// directories of its workers. Deploy looks before anything starts; a caller who has more to lose looks earlier: for example, a
// node that takes over the workers of the one before ends them if its application cannot be deployed.
func (s Settings) Check(def App) error {
	var errs []error
	if p := def.Graph.RoutePrefix; p != "" {
		if err := proxy.CheckPrefix(p); err != nil {
			errs = append(errs, err)
		}
	}
	program := s.Program
	if def.Program != nil {
		program = *def.Program
	}
	python, inWorker := false, false
	for _, d := range def.Graph.Deployments {
		switch {
		case d.Language == "python":
			python = true
		case d.Options.Isolation == spec.Process || def.Program != nil:
			inWorker = true
		}
		if dir := d.Options.Dir; dir != "" {
			if err := isDir(dir); err != nil {
				errs = append(errs, fmt.Errorf("deployment %q: working_dir: %w", d.Name, err))
			}
		}
	}
	if python {
		if _, err := exec.LookPath(def.Python.Interpreter); err != nil {
			errs = append(errs, fmt.Errorf("no Python interpreter: %w", err))
		}
		if dir := def.Python.Dir; dir != "" {
			if err := isDir(dir); err != nil {
				errs = append(errs, fmt.Errorf("the directory of the Python workers: %w", err))
			}
		}
	}
	if inWorker && def.Host == nil && program.Path != "" {
		if _, err := os.Stat(program.Path); err != nil {
			errs = append(errs, fmt.Errorf("the executable of the workers: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("application %q: %w", def.Graph.App, err)
	}
	return nil
}

func isDir(path string) error {
	st, err := os.Stat(path)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is not a directory", path)
	}
	return err
}
