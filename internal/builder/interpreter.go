package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
)

// Interpreter finds the Python of applications: the given path, else the path in HELVE_PYTHON, else the Python of the active virtual environment, else the first on
// PATH. env gives the variables.
func Interpreter(given string, env func(name string) string) (string, error) {
	return interpreter(given, env, func(path string) (string, error) {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", err
		}
		return filepath.Abs(found)
	})
}

func interpreter(given string, env func(name string) string, look func(path string) (string, error)) (string, error) {
	if given != "" {
		python, err := look(given)
		if err != nil {
			if path, ok := errors.AsType[*fs.PathError](err); ok { // without the path again
				err = path.Err
			}
			return "", fmt.Errorf("the Python interpreter %s: %w", given, err)
		}
		return python, nil
	}
	if named := env("HELVE_PYTHON"); named != "" {
		python, err := look(named)
		if err != nil {
			return "", fmt.Errorf("HELVE_PYTHON=%s: %w", named, err)
		}
		return python, nil
	}
	if venv := env("VIRTUAL_ENV"); venv != "" {
		if python, err := look(filepath.Join(venv, "bin", "python")); err == nil {
			return python, nil
		}
	}
	for _, name := range []string{"python3", "python"} {
		if python, err := look(name); err == nil {
			return python, nil
		}
	}
	return "", errors.New("an application in Python needs an interpreter: there is no python3 on PATH; name one in HELVE_PYTHON")
}
