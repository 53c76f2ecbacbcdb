package builder

import (
	"errors"
	"strings"
	"testing"
)

func TestInterpreter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env   map[string]string
		there []string
		want  string
		err   string
	}{
		"named":                             {map[string]string{"HELVE_PYTHON": "/p/python", "VIRTUAL_ENV": "/v"}, []string{"/p/python", "/v/bin/python"}, "/p/python", ""},
		"named and not there":               {map[string]string{"HELVE_PYTHON": "/p/python"}, []string{"python3"}, "", "HELVE_PYTHON=/p/python: not there"},
		"of the virtual environment":        {map[string]string{"VIRTUAL_ENV": "/v"}, []string{"python3", "/v/bin/python"}, "/v/bin/python", ""},
		"of an environment without python":  {map[string]string{"VIRTUAL_ENV": "/v"}, []string{"python3"}, "python3", ""},
		"on PATH":                           {nil, []string{"python3", "python"}, "python3", ""},
		"on PATH without the version's one": {nil, []string{"python"}, "python", ""},
		"given":                             {map[string]string{"HELVE_PYTHON": "/p/python"}, []string{"/p/python", "/given"}, "/given", ""},
		"none":                              {nil, nil, "", "there is no python3 on PATH; name one in HELVE_PYTHON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			look := func(path string) (string, error) {
				for _, p := range c.there {
					if p == path {
						return p, nil
					}
				}
				return "", errors.New("not there")
			}
			given := ""
			if name == "given" {
				given = "/given"
			}
			got, err := interpreter(given, func(name string) string { return c.env[name] }, look)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
