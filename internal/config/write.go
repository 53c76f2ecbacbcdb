package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/spec"
)

// Built is an application that `helve build` writes into a file.
type Built struct {
	Name        string
	RoutePrefix string // "" for no HTTP
	ImportPath  string
	Deployments []BuiltDeployment
}

// BuiltDeployment is a deployment of the code, with the options that the code sets.
type BuiltDeployment struct {
	Name    string
	Options spec.Options
}

// Write is a file with applications, as `helve build` makes it: each deployment of the code is there, and each option that the code sets is a comment, because a
// file is stronger than the code. For example, code with num_replicas=2 gives the line "# num_replicas: 2": without the # it keeps
// the number when the code changes to 3.
func Write(applications []Built) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Deploy it with: helve deploy FILE\n# A line that begins with # is what the code says. Take the # away to set the option here: a file is stronger than the code.\n")
	b.WriteString("proxy_location: EveryNode\n\nhttp_options:\n  host: 0.0.0.0\n  port: 8000\n\napplications:\n")
	for _, app := range applications {
		prefix := "null"
		if app.RoutePrefix != "" {
			prefix = quoted(app.RoutePrefix)
		}
		fmt.Fprintf(&b, "- name: %s\n  route_prefix: %s\n  import_path: %s\n  runtime_env: {}\n  deployments:\n", quoted(app.Name), prefix, quoted(app.ImportPath))
		for _, d := range app.Deployments {
			fmt.Fprintf(&b, "  - name: %s\n", quoted(d.Name))
			lines, err := optionLines(d.Options)
			if err != nil {
				return nil, fmt.Errorf("deployment %q: %w", d.Name, err)
			}
			for _, line := range lines {
				b.WriteString("    # " + line + "\n")
			}
		}
	}
	return []byte(b.String()), nil
}

// needsNoQuotes is a text that YAML reads as it is, but for words such as true.
var needsNoQuotes = regexp.MustCompile(`^[\pL_/][\pL\pN_./#-]*(:[\pL\pN_./#-]+)*$`) //nolint:gochecknoglobals // a constant

// quoted is a text in YAML: in quotes where it would else be read as another value.
func quoted(s string) string {
	if k, _, err := plain(s); err == nil && k == text && needsNoQuotes.MatchString(s) {
		return s
	}
	return string((&value{kind: text, text: s}).json()) // JSON is YAML
}

// optionLines are the options that are set, as lines of YAML.
func optionLines(o spec.Options) ([]string, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var fields map[string]json.RawMessage
		if json.Unmarshal(all[name], &fields) != nil || len(fields) == 0 || !isGroup(name) {
			lines = append(lines, name+": "+string(all[name])) // JSON is YAML
			continue
		}
		lines = append(lines, name+":")
		for _, key := range slices.Sorted(maps.Keys(fields)) {
			lines = append(lines, "  "+key+": "+string(fields[key]))
		}
	}
	return lines, nil
}

func isGroup(name string) bool { return len(spec.Keys(name)) > 0 }
