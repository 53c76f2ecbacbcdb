package details

import (
	"bytes"
	"encoding/json"
	"strings"
)

// fileURI is the beginning of the URI of a path. Files of Helve have both forms for the same directory.
const fileURI = "file://"

// withURIs is the configuration of a deployment, or of an application with its deployments, with URIs in the place of the paths of each runtime_env: the reference's clients
// refuse paths there. For example, working_dir is /srv/shop in a file, and file:///srv/shop in the answer. A file with the URI deploys the same directory.
func withURIs(config json.RawMessage, application bool) json.RawMessage {
	if !bytes.Contains(config, []byte("working_dir")) && !bytes.Contains(config, []byte("py_modules")) { // most have none, and cost no copy
		return config
	}
	return inside(config, func(fields map[string]json.RawMessage) {
		if !application {
			fields["ray_actor_options"] = inside(fields["ray_actor_options"], environmentURIs)
			return
		}
		environmentURIs(fields)
		var all []json.RawMessage
		if json.Unmarshal(fields["deployments"], &all) != nil {
			return
		}
		for i := range all {
			all[i] = withURIs(all[i], false)
		}
		fields["deployments"] = encoded(all, fields["deployments"])
	})
}

// environmentURIs puts URIs into the field runtime_env of an object.
func environmentURIs(fields map[string]json.RawMessage) {
	fields["runtime_env"] = inside(fields["runtime_env"], func(env map[string]json.RawMessage) {
		var dir string
		if json.Unmarshal(env["working_dir"], &dir) == nil && dir != "" {
			env["working_dir"] = encoded(uri(dir), nil)
		}
		var modules []string
		if json.Unmarshal(env["py_modules"], &modules) == nil && modules != nil {
			for i := range modules {
				modules[i] = uri(modules[i])
			}
			env["py_modules"] = encoded(modules, nil)
		}
	})
}

func uri(path string) string {
	if path == "" || strings.Contains(path, "://") {
		return path
	}
	return fileURI + path
}

// inside is an object with the change that f makes to its fields. Other values, and fields that f adds without a value, are left out of the change.
func inside(raw json.RawMessage, f func(fields map[string]json.RawMessage)) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return raw
	}
	f(fields)
	for name, v := range fields {
		if v == nil {
			delete(fields, name)
		}
	}
	return encoded(fields, raw)
}

// encoded is the JSON of a value, or another one if it has none.
func encoded(v any, otherwise json.RawMessage) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return otherwise
	}
	return b
}
