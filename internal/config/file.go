// Package config reads the files that operators write: applications, the options of their deployments, and settings of the node, in the schema of
// Ray Serve. It opens no file and knows no node: [Read] makes a [File] of a text, and all mistakes of the text at once, each with its line.
//
// The way of a value: the parser (goccy/go-yaml) gives nodes with positions, tree.go and yaml.go make plain values of them by the rules of YAML 1.1
// that Ray Serve has (json.go makes them of a file in JSON), read.go checks the fields of a file and of its applications, and options.go turns the options of a deployment into a layer
// with the names of [spec.Options], which [spec.Options.Merge] puts over the options of the code. A mistake that is found later, for example that
// the code has no such deployment, gets its line by [File.Place].
package config

import (
	"encoding/json"
	"errors"

	"github.com/helve-serve/helve/internal/spec"
)

// File is a file that was read.
type File struct {
	Name         string
	Applications []Application
	// HTTP are the fields of http_options; nil for none.
	HTTP *HTTP
	// ProxyLocation is "EveryNode", "HeadOnly", "Disabled" or "NoServer"; "" if the file does not say it.
	ProxyLocation string
	// Logging is the object logging_config for all replicas; nil for none.
	Logging json.RawMessage
	// Tracing is the object tracing_config; nil for none.
	Tracing *spec.Tracing
	// TargetCapacity is the percent of all numbers of replicas that should run; nil for all.
	TargetCapacity *float64
	// Warnings are about fields that have no effect, each with the name of the file and the line.
	Warnings []string

	reader *reader
	places map[string]place // by application, deployment and option: see key
}

// HTTP are the HTTP options of a file. A field that the file does not have is nil.
type HTTP struct {
	Host     *string `json:"host,omitempty"`
	Port     *int    `json:"port,omitempty"`
	RootPath *string `json:"root_path,omitempty"`
	// RequestTimeout is in seconds; 0 is no limit.
	RequestTimeout *float64 `json:"request_timeout_s,omitempty"`
	// KeepAlive is in seconds, and more than 0.
	KeepAlive *float64 `json:"keep_alive_timeout_s,omitempty"`
	// Key and Certificate are files for TLS: both or neither. KeyPassword may have placeholders of package secret, and so may the files.
	Key         *string `json:"ssl_keyfile,omitempty"`
	Certificate *string `json:"ssl_certfile,omitempty"`
	KeyPassword *string `json:"ssl_keyfile_password,omitempty"`
	ClientCA    *string `json:"ssl_ca_certs,omitempty"`
}

// Application is one application of a file.
type Application struct {
	Name string
	// RoutePrefix is the path below which HTTP requests reach it; "" for no HTTP.
	RoutePrefix string
	// ImportPath is MODULE:ATTRIBUTE of Python, also where the file has a dot in place of the colon, or exec:PATH#APPLICATION of a Go build.
	ImportPath string
	// RuntimeEnv is the environment of all deployments in the form of the option runtime_env: an object with env_vars, working_dir, py_modules and
	// pip; nil for none. It is weaker than that of a deployment, also than that of a deployment's code. Texts may have placeholders of package secret.
	RuntimeEnv json.RawMessage
	// Args is the object of arguments for a function that makes the application; nil for none. Texts may have placeholders of package secret.
	Args json.RawMessage
	// Logging is the object logging_config of the application, else that of the file; nil for none.
	Logging json.RawMessage
	// ExternalScaler says that the application expects another program to set the numbers of replicas.
	ExternalScaler bool
	// Deployments has the options of deployments by their names: a layer for [spec.Options.Merge]. For example, the file's ray_actor_options with a
	// runtime_env becomes {"ray_actor_options": {...}, "runtime_env": {...}}.
	Deployments map[string]json.RawMessage
	// Options are the options of the application itself, a layer for [spec.Application.Merge].
	Options json.RawMessage
	// Submitted is the application as the file has it, as JSON. It may have secrets: package secret redacts it.
	Submitted json.RawMessage
	// Line is its place in the file.
	Line int
}

// key is the key of a place. For example, the option limits.memory of deployment D in application A has the key of the three.
func key(app, deployment, option string) string { return app + "\x00" + deployment + "\x00" + option }

// Place gives an error the place of a field in the file: of an option of a deployment, or of a field of an application with deployment "". If the file
// does not have the field, the place is that of the group around it, else of the deployment, else of the application.
// For example, a deployment that the code does not have is File.Place("shop", "Rankr", "name", err), and has the line of its name.
func (f *File) Place(app, deployment, option string, err error) *Mistake {
	if placed, ok := errors.AsType[*Mistake](err); ok && placed.File == f.Name {
		return placed
	}
	where, ok := f.place(app, deployment, option)
	if !ok {
		where = place{1, 1, 1}
	}
	m := f.reader.mistake(where, err.Error())
	m.cause = err
	return f.reader.show(m)
}

func (f *File) place(app, deployment, option string) (place, bool) {
	for {
		if p, ok := f.places[key(app, deployment, option)]; ok {
			return p, true
		}
		switch {
		case option != "":
			option = parent(option)
		case deployment != "":
			deployment = ""
		default:
			return place{}, false
		}
	}
}

// parent is the path of the group around an option; "" for none.
func parent(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '.' {
			return path[:i]
		}
	}
	return ""
}
