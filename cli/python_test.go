package cli

import (
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
