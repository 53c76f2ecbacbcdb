package config

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// elsewhere are fields of Ray's runtime_env that nodes do not have, with their alternatives.
var elsewhere = map[string]string{ //nolint:gochecknoglobals // a constant
	"conda":                     "use pip, or give the interpreter of the conda environment with helve deploy --python",
	"container":                 "start the node inside of the container",
	"image_uri":                 "start the node inside of the container",
	"java_jars":                 "nodes run no Java",
	"py_executable":             "workers have the interpreter of helve deploy --python, or of the variable HELVE_PYTHON of the node",
	"worker_process_setup_hook": "do it in the deployment's constructor",
	"nsight":                    "start the program under the profiler",
	"_nsight":                   "start the program under the profiler",
	"rocprof_sys":               "start the program under the profiler",
	"mpi":                       "nodes start no MPI programs",
}

var isURI = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9+.\-]*)://`) //nolint:gochecknoglobals // a constant

// isShell is a variable as shells and Docker Compose have it.
var isShell = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`) //nolint:gochecknoglobals // a constant

// environment reads a runtime_env into the form of the option of that name: uv is pip, and a requirements file is the line -r PATH. It is nil for null.
// note hears the places of options.
func (r *reader) environment(f field, of string, note func(option string, at place)) json.RawMessage {
	v := r.object(f.at, of+f.name, f.value)
	if v == nil {
		return nil
	}
	at := of + "runtime_env."
	out := map[string]json.RawMessage{}
	packages := func(names [4]string) func(r *reader, f field) {
		return func(r *reader, f field) {
			if _, twice := out["pip"]; twice {
				r.wrong(f.at, "%s%s: pip and uv do not go together: leave one out", at, f.name)
				return
			}
			out["pip"] = r.packages(f, at, names)
			note("runtime_env.pip", f.at)
		}
	}
	known := fields{
		"env_vars": func(r *reader, f field) {
			out["env_vars"] = r.variables(f, at, note)
			note("runtime_env.env_vars", f.at)
		},
		"working_dir": func(r *reader, f field) {
			out["working_dir"] = r.directory(f, f.value, at).json()
			note("runtime_env.working_dir", valueOr(f))
		},
		"py_modules": func(r *reader, f field) {
			note("runtime_env.py_modules", f.at)
			if f.value.kind != list {
				if f.value.kind != null {
					r.wrong(f.value.at, "%spy_modules: must be a list of paths, is %s", at, f.value.shown())
				}
				return
			}
			all := &value{kind: list}
			for _, item := range f.value.items {
				all.items = append(all.items, r.directory(f, item, at))
			}
			out["py_modules"] = all.json()
		},
		"pip": packages([4]string{"packages", "pip_check", "pip_install_options", "pip_version"}),
		"uv":  packages([4]string{"packages", "uv_check", "uv_pip_install_options", "uv_version"}),
		"excludes": func(r *reader, f field) {
			note("runtime_env.excludes", f.at)
			r.texts(f, at)
			out["excludes"] = f.value.json()
		},
		"config":      func(*reader, field) {}, // settings of Ray for making environments
		"_ray_commit": func(*reader, field) {},
	}
	r.each(v, known, func(f field) {
		switch instead, ok := elsewhere[f.name]; {
		case f.value.kind == null:
		case ok:
			r.wrong(f.at, "%s%s: is not there: %s", at, f.name, instead)
		default:
			r.wrong(f.at, "%s%s: there is no such field%s", at, f.name, orList(f.name, known.names()))
		}
	})
	raw, err := json.Marshal(out)
	if err != nil {
		return nil // values of the file always have a form
	}
	return raw
}

// variables reads env_vars, whose values are never shown.
func (r *reader) variables(f field, at string, note func(string, place)) json.RawMessage {
	v := r.object(f.at, at+f.name, f.value)
	if v == nil {
		return json.RawMessage("null")
	}
	for _, in := range v.fields {
		note("runtime_env.env_vars."+in.name, in.at)
		switch in.value.kind { //nolint:exhaustive // the others are mistakes
		case text:
			if m := isShell.FindStringSubmatch(in.value.text); m != nil && !in.value.marked {
				r.warn(in.value.at, "%senv_vars.%s: the text %s is passed as it is; ${env:%s} is the variable of the node", at, in.name, m[0], m[1])
			}
			r.sealText(in.value)
		case null:
		case boolean, number:
			r.wrong(in.value.at, "%senv_vars.%s: must be a text, is %s; in quotes it is a text", at, in.name, in.value.kind)
		default:
			r.wrong(in.value.at, "%senv_vars.%s: must be a text, is %s", at, in.name, in.value.kind)
		}
	}
	return v.json()
}

// directory reads the path of a directory, file or archive.
func (r *reader) directory(f field, v *value, at string) *value {
	if v.kind == null {
		return v
	}
	s, _ := r.text(field{f.name, v.at, v}, at)
	if m := isURI.FindStringSubmatch(s); m != nil {
		switch scheme := strings.ToLower(m[1]); scheme {
		case "file", "local":
			return &value{kind: text, at: v.at, text: s[len(scheme)+len("://"):]}
		}
	}
	return v
}

// packages reads pip or uv: a list of packages, the path of a requirements file, or an object.
func (r *reader) packages(f field, at string, names [4]string) json.RawMessage {
	out := &value{kind: object}
	lines := func(f field) *value {
		if f.value.kind == text {
			r.unsealed(f.value, at+f.name)
			return &value{kind: list, items: []*value{{kind: text, text: "-r " + f.value.text}}}
		}
		r.texts(f, at)
		return f.value
	}
	if f.value.kind != object {
		if f.value.kind == null {
			return json.RawMessage("null")
		}
		out.fields = []field{{name: "packages", value: lines(f)}}
		return out.json()
	}
	ours := [4]string{"packages", "pip_check", "pip_install_options", "pip_version"}
	for _, in := range f.value.fields {
		switch i := slices.Index(names[:], in.name); {
		case i < 0:
			r.wrong(in.at, "%s%s.%s: there is no such field%s", at, f.name, in.name, orList(in.name, names[:]))
		case i == 0:
			out.fields = append(out.fields, field{name: ours[0], value: lines(in)})
		case names[i] == "uv_version": // pip installs the packages
		default:
			r.unsealed(in.value, at+f.name+"."+in.name)
			out.fields = append(out.fields, field{name: ours[i], value: in.value})
		}
	}
	if f.value.get("packages") == nil {
		r.wrong(f.at, "%s%s: packages is missing", at, f.name)
	}
	return out.json()
}

// texts checks a list of texts.
func (r *reader) texts(f field, at string) {
	if f.value.kind == null {
		return
	}
	if f.value.kind != list {
		r.wrong(f.value.at, "%s%s: must be a list of texts, is %s", at, f.name, f.value.shown())
		return
	}
	for _, item := range f.value.items {
		if _, ok := r.text(field{f.name, item.at, item}, at); !ok {
			return
		}
	}
}
