package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/secret"
	"github.com/helve-serve/helve/internal/spec"
)

var update = flag.Bool("update", false, "write the expected messages and layers")

// each runs a test for each file of a directory of testdata, with its text.
func each(t *testing.T, dir string, test func(t *testing.T, name string, source []byte)) {
	t.Helper()
	files, err := filepath.Glob("testdata/" + dir + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			test(t, name, source)
		})
	}
}

// expect compares a text with the file beside a file of testdata.
func expect(t *testing.T, name, got string) {
	t.Helper()
	expected := strings.TrimSuffix(name, ".yaml") + ".txt"
	if *update {
		if err := os.WriteFile(expected, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(expected)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestMistakes compares all messages of files with mistakes.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"mistakes", "refused"} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			each(t, dir, func(t *testing.T, name string, source []byte) {
				_, err := config.Read(filepath.Base(name), source)
				if err == nil {
					t.Fatal("no mistake")
				}
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("a message has a secret:\n%v", err)
				}
				all, _ := errors.AsType[config.Mistakes](err)
				var text strings.Builder
				for _, m := range all {
					text.WriteString(m.Error() + "\n")
				}
				expect(t, name, text.String())
			})
		})
	}
}

// TestFilesOfRayServe reads files in the forms that the documentation of Ray Serve has, and compares all that they say.
func TestFilesOfRayServe(t *testing.T) {
	t.Parallel()
	each(t, "ray", func(t *testing.T, name string, source []byte) {
		f, err := config.Read(filepath.Base(name), source)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Applications) == 0 {
			t.Fatal("no application")
		}
		for _, app := range f.Applications {
			for d, layer := range app.Deployments {
				o, err := spec.Options{}.Merge(layer, spec.FromFile)
				if err != nil || len(o.Validate()) > 0 {
					t.Errorf("deployment %s: %v, %v", d, err, o.Validate())
				}
			}
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetIndent("", " ")
		e.SetEscapeHTML(false)
		if err := e.Encode(f); err != nil {
			t.Fatal(err)
		}
		expect(t, name, b.String())
	})
}

func TestPlace(t *testing.T) {
	t.Parallel()
	const file = `applications:
- name: shop
  import_path: a:app
  args:
    word: x
  deployments:
  - name: Rankr
    limits:
      memory: 33554432
`
	f, err := config.Read("f.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("wrong")
	for _, c := range []struct {
		deployment, option, want string
	}{
		{"Rankr", "name", "f.yaml:7:11: wrong"},
		{"Rankr", "limits.memory", "f.yaml:9:15: wrong"},
		{"Rankr", "limits.num_cpus", "f.yaml:8:5: wrong"},
		{"Rankr", "num_replicas", "f.yaml:7:5: wrong"},
		{"Other", "num_replicas", "f.yaml:2:3: wrong"},
		{"", "args.word", "f.yaml:5:5: wrong"},
		{"", "args.other", "f.yaml:4:3: wrong"},
		{"", "import_path", "f.yaml:3:16: wrong"},
	} {
		if m := f.Place("shop", c.deployment, c.option, cause); m.Brief() != c.want || !errors.Is(m, cause) {
			t.Errorf("%s %s: %v", c.deployment, c.option, m)
		}
	}
	if m := f.Place("other", "", "", cause); m.Brief() != "f.yaml:1:1: wrong" {
		t.Error(m)
	}
}

// TestElement: one element of the list applications has its own lines and columns, and its name from elsewhere.
func TestElement(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"import_path": "a:app", "route_prefix": "/x", "name": "shop"}`, "route_prefix: /x\nimport_path: a:app\n"} {
		f, err := config.ReadElement("the body", []byte(text), "shop", nil)
		if err != nil || len(f.Applications) != 1 || f.Applications[0].Name != "shop" || f.Applications[0].RoutePrefix != "/x" {
			t.Errorf("%s: %+v, %v", text, f, err)
		}
	}
	_, err := config.ReadElement("the body", []byte("{\n  \"route_prefix\": \"x\",\n  \"import_path\": \"a:app\", \"foo\": \"${env:HELVE_NONE}\", \"args\": {\"a\": \"${env:HELVE_NONE}\"}\n}"), "shop", nil)
	var at []string
	for _, m := range err.(config.Mistakes) { //nolint:errcheck,errorlint,forcetypeassert // as documented
		at = append(at, fmt.Sprintf("%d:%d", m.Line, m.Column))
	}
	if want := []string{"2:19", "3:27", "3:69"}; !slices.Equal(at, want) {
		t.Errorf("mistakes at %v, want %v:\n%v", at, want, err)
	}
}

// TestSecrets: secrets are in the layers in the form of records, and in no message.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const file = `applications:
- import_path: a:app
  args: {password: !secret hunter2, url: "http://${env:HOST}"}
  runtime_env: {env_vars: {KEY: "${file:/run/key}", PLAIN: "$${env:X}"}}
  deployments:
  - {name: D, user_config: {keys: [!secret 0123]}}
`
	f, err := config.Read("f.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	app := f.Applications[0]
	for got, want := range map[string]string{
		string(app.Args):             `{"password":"` + secret.Mark("hunter2") + `","url":"http://${!env:HOST}"}`,
		string(app.RuntimeEnv):       `{"env_vars":{"KEY":"${!file:/run/key}","PLAIN":"${env:X}"}}`,
		string(app.Deployments["D"]): `{"user_config":{"keys":["` + secret.Mark("0123") + `"]}}`,
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if s := string(app.Submitted) + f.Place("default", "", "args.url", errors.New("x")).Error(); strings.Contains(s, "hunter2") {
		t.Error(s)
	}
}

func TestIn(t *testing.T) {
	t.Parallel()
	const file = `applications:
- import_path: a:app
  runtime_env: {working_dir: models, py_modules: [lib, /abs, "s3://b/c.zip"], pip: requirements.txt, env_vars: {A: models}}
  deployments:
  - {name: D, num_replicas: 2, ray_actor_options: {runtime_env: {working_dir: "https://example.com/a.zip", pip: [torch, ./wheels/a.whl]}}}
  - {name: E, num_replicas: 3}
`
	f, err := config.Read("f.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string) ([]byte, error) {
		if path != "/srv/shop/requirements.txt" {
			return nil, fs.ErrNotExist
		}
		return []byte("# packages\nnumpy==1.26 \\\n  --hash=x # of it\n-c bounds.txt\n\n./wheels/b.whl\n"), nil
	}
	if err := f.In(config.Machine{Dir: "/srv/shop", Read: read}); err != nil {
		t.Fatal(err)
	}
	app := f.Applications[0]
	for got, want := range map[string]string{
		string(app.RuntimeEnv): `{"env_vars":{"A":"models"},"pip":{"packages":["numpy==1.26    --hash=x","-c /srv/shop/bounds.txt","/srv/shop/wheels/b.whl"]},"py_modules":["/srv/shop/lib","/abs","s3://b/c.zip"],"working_dir":"/srv/shop/models"}`,
		string(app.Deployments["D"]): `{"autoscaling_config":null,"num_replicas":2,"ray_actor_options":{},` +
			`"runtime_env":{"pip":{"packages":["torch","/srv/shop/wheels/a.whl"]},"working_dir":"https://example.com/a.zip"}}`,
		string(app.Deployments["E"]): `{"autoscaling_config":null,"num_replicas":3}`,
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestInWithoutItsFile: a requirements file that is not there is a mistake with its place.
func TestInWithoutItsFile(t *testing.T) {
	t.Parallel()
	f, err := config.Read("f.yaml", []byte("applications:\n- import_path: a:app\n  deployments:\n  - name: D\n    runtime_env:\n      pip: none.txt\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = f.In(config.Machine{Dir: "/srv", Read: func(path string) ([]byte, error) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}})
	if err == nil || !strings.HasPrefix(err.Error(), "f.yaml:6:7: runtime_env.pip: open /srv/none.txt: file does not exist") {
		t.Error(err)
	}
}

// TestInFetches: each archive is fetched once, and one that cannot be has its place.
func TestInFetches(t *testing.T) {
	t.Parallel()
	const file = `applications:
- import_path: a:app
  runtime_env: {working_dir: "https://example.com/a.zip", py_modules: ["https://example.com/a.zip", lib]}
- import_path: b:app
  name: b
  route_prefix: /b
  runtime_env:
    working_dir: s3://b/c.zip
`
	f, err := config.Read("f.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	err = f.In(config.Machine{Dir: "/srv", Fetch: func(uri string) (string, error) {
		calls++
		if strings.HasPrefix(uri, "s3:") {
			return "", errors.New("no such scheme")
		}
		return "/cache/a.zip", nil
	}})
	if err == nil || !strings.HasPrefix(err.Error(), "f.yaml:8:18: runtime_env.working_dir: no such scheme") || calls != 2 {
		t.Error(calls, err)
	}
	if got := string(f.Applications[0].RuntimeEnv); got != `{"py_modules":["/cache/a.zip","/srv/lib"],"working_dir":"/cache/a.zip"}` {
		t.Error(got)
	}
}

// halfScaled says that an error is about the bounds of an autoscaler of which the layer has not both: the code may have the other one, so a file with it is taken.
func halfScaled(layer json.RawMessage, err error) bool {
	var of struct {
		Scaling map[string]any `json:"autoscaling_config"`
	}
	m, ok := errors.AsType[*spec.Mistake](err)
	return ok && slices.Equal(m.Paths(), []string{"autoscaling_config"}) && json.Unmarshal(layer, &of) == nil && (of.Scaling["min_replicas"] == nil || of.Scaling["max_replicas"] == nil)
}

func FuzzRead(f *testing.F) {
	for _, dir := range []string{"ray", "mistakes", "refused"} {
		files, err := filepath.Glob("testdata/" + dir + "/*.yaml")
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			source, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(source)
		}
	}
	f.Add([]byte(`{"applications": [{"import_path": "a:b", "args": {"x": "\ud83d\ude00", "n": -1e3}, "deployments": [{"name": "D", "num_replicas": 2}]}]}`))
	f.Fuzz(func(t *testing.T, source []byte) {
		file, err := config.Read("f.yaml", source)
		if err != nil {
			if all, ok := errors.AsType[config.Mistakes](err); !ok || len(all) == 0 || all.Brief() == "" || all.Error() == "" {
				t.Errorf("%T", err)
			}
			return
		}
		for _, app := range file.Applications {
			if !json.Valid(app.Submitted) {
				t.Errorf("%q", app.Submitted)
			}
			for d, layer := range app.Deployments {
				o, err := (spec.Options{}).Merge(layer, spec.FromFile)
				mistakes := slices.DeleteFunc(o.Validate(), func(err error) bool { return halfScaled(layer, err) })
				if err != nil || len(mistakes) > 0 {
					t.Errorf("deployment %s: %v %v", d, err, mistakes)
				}
			}
		}
	})
}
