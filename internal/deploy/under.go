package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
)

// OfFile notes that options of deployments are of the file, whose runtime_env of the application [UnderApplication] has put under that of the code. For example, the file has a working_dir: it
// is of the file, unless the code of a deployment has its own.
func OfFile(all []spec.Deployment, code []protocol.PythonDeployment, environment json.RawMessage) {
	var fields map[string]json.RawMessage
	json.Unmarshal(environment, &fields) //nolint:errcheck // no object has no fields
	for i := range all {
		var own struct {
			RuntimeEnv json.RawMessage `json:"runtime_env"`
		}
		if at := slices.IndexFunc(code, func(d protocol.PythonDeployment) bool { return d.Name == all[i].Name }); at >= 0 && len(code[at].Options) > 0 {
			json.Unmarshal(code[at].Options, &own) //nolint:errcheck // they were read before
		}
		for key := range fields {
			if key == "env_vars" || !HasKey(own.RuntimeEnv, key) {
				all[i].Options = all[i].Options.From("runtime_env."+key, spec.FromFile)
			}
		}
	}
}

// UnderApplication puts the runtime_env of an application under that of a deployment, which is in its options. Variables are merged by their
// names; another key of the deployment takes the place of the application's as a whole. For example, an application with the variables A and B
// and the packages x and y, and a deployment with the variable B and the package z: the deployment has A, its own B, and z alone.
func UnderApplication(application, options json.RawMessage) (json.RawMessage, error) {
	if len(application) == 0 {
		return options, nil
	}
	var base map[string]json.RawMessage
	if err := json.Unmarshal(application, &base); err != nil {
		return nil, fmt.Errorf("the runtime_env of the application: %w", err)
	}
	if len(base) == 0 {
		return options, nil
	}
	all := map[string]json.RawMessage{}
	var own map[string]json.RawMessage
	if len(options) > 0 {
		if json.Unmarshal(options, &all) != nil || len(all["runtime_env"]) > 0 && json.Unmarshal(all["runtime_env"], &own) != nil {
			return options, nil // a mistake of the deployment, which is found there
		}
	}
	if all == nil { // null
		all = map[string]json.RawMessage{}
	}
	variables := map[string]json.RawMessage{}
	for _, layer := range []map[string]json.RawMessage{base, own} {
		var some map[string]json.RawMessage
		if len(layer["env_vars"]) == 0 {
			continue
		}
		if json.Unmarshal(layer["env_vars"], &some) != nil { // a mistake, which is found where options are read
			variables = nil
			break
		}
		maps.Copy(variables, some)
	}
	maps.Copy(base, own)
	if len(variables) > 0 {
		merged, err := json.Marshal(variables)
		if err != nil {
			return nil, err
		}
		base["env_vars"] = merged
	}
	var err error
	if all["runtime_env"], err = json.Marshal(base); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// HasKey says that an object of JSON has a key.
func HasKey(object json.RawMessage, key string) bool {
	var fields map[string]json.RawMessage
	return json.Unmarshal(object, &fields) == nil && fields[key] != nil
}
