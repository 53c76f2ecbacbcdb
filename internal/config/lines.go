package config

import "encoding/json"

// ForPython is the file for `helve run FILE` of the Python package, as JSON: the fields as the reader takes them, and the place of each key and item. Placeholders have the
// form of records.
func (f *File) ForPython() ([]byte, error) {
	type application struct {
		Name        string          `json:"name"`
		RoutePrefix *string         `json:"route_prefix"` // null for no HTTP
		ImportPath  string          `json:"import_path"`
		RuntimeEnv  json.RawMessage `json:"runtime_env"`
		Logging     json.RawMessage `json:"logging_config"`
		Fields      json.RawMessage `json:"fields"` // as the file has them
	}
	out := struct {
		HTTP         *HTTP         `json:"http_options"`
		Location     string        `json:"proxy_location,omitempty"`
		Applications []application `json:"applications"`
		Warnings     []string      `json:"warnings"`
		Places       [][]any       `json:"places"` // each is a path of keys and numbers, with line and column at its end
	}{HTTP: f.HTTP, Location: f.ProxyLocation, Applications: []application{}, Warnings: f.Warnings}
	if f.Tracing != nil {
		out.Warnings = append(out.Warnings[:len(out.Warnings):len(out.Warnings)], "tracing_config: has no effect in this command: a node of helve start takes it")
	}
	for _, app := range f.Applications {
		one := application{Name: app.Name, ImportPath: app.ImportPath, RuntimeEnv: app.RuntimeEnv, Logging: app.Logging, Fields: app.Submitted}
		if app.RoutePrefix != "" {
			one.RoutePrefix = &app.RoutePrefix
		}
		out.Applications = append(out.Applications, one)
	}
	var walk func(v *value, path []any)
	walk = func(v *value, path []any) {
		note := func(name any, at place, inner *value) {
			below := append(path[:len(path):len(path)], name)
			out.Places = append(out.Places, append(below[:len(below):len(below)], at.line, at.column))
			walk(inner, below)
		}
		for _, in := range v.fields {
			note(in.name, in.at, in.value)
		}
		for i, item := range v.items {
			note(i, item.at, item)
		}
	}
	walk(f.reader.root, nil)
	return json.Marshal(out)
}
