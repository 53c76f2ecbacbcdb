package cli

import (
	"errors"
	"strings"
	"testing"
)

func TestForPython(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"run app.py":                               true,
		"run --ray-compat dir/app.py --port 3":     true,
		"run my.app:entrypoint key=value":          true,
		"run app:Holder.app":                       true,
		"run --http localhost:8000 app:x":          true,
		"run --http unix:s app:x":                  true,
		"run --ray-compat":                         true,
		"run serve.yaml":                           true,
		"run --reload -d dir app:x":                true,
		"run --name a:b app:x":                     true,
		"run --name a:b":                           false,
		"run -d a.py":                              false,
		"run --access-log app:x":                   true,
		"run app:x --help":                         true,
		"run --help app:x":                         false,
		"ray-check .":                              true,
		"ray-compat pytest":                        true,
		"run":                                      false,
		"run hello":                                false,
		"run --http localhost:8000":                false,
		"run --http unix:s":                        false,
		"run exec:./app#hello -- x.py":             false,
		"run exec:./script.py":                     false,
		"run --http 127.0.0.1:0 -- app.py":         false,
		"run 127.0.0.1:8000":                       false,
		"status app.py":                            false,
		"":                                         false,
		"run --isolation node exec:app#app:module": false,
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			if got := forPython(strings.Fields(line)); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

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
			got, err := interpreter(func(name string) string { return c.env[name] }, look)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
