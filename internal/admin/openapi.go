package admin

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/jsonbody"
	"github.com/helve-serve/helve/internal/token"
)

// object is an object of the OpenAPI document.
type object = map[string]any

func (a *Server) openAPI(c *ask) { answer(c.w, http.StatusOK, a.document()) }

// document is the OpenAPI document of the table of routes.
func (a *Server) document() object {
	d := &schemas{of: object{}, types: map[string]reflect.Type{}}
	paths := object{}
	for i := range a.routes {
		r := &a.routes[i]
		if paths[r.path] == nil {
			paths[r.path] = object{}
		}
		paths[r.path].(object)[strings.ToLower(r.method)] = d.route(r)
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Helve", "version": a.set.Version,
			"description": "The REST API of a Helve node for its operators. Over TCP, a request that changes something needs a token; off the loopback interface every request does. " +
				"The ETag of an answer is the generation of the target; a change with If-Match is refused if that is another one by now.",
		},
		"paths": paths,
		"components": object{
			"schemas":         d.of,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
		},
	}
}

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

// route is the operation of a row.
func (d *schemas) route(r *route) object {
	params := []any{}
	for _, m := range pathParam.FindAllStringSubmatch(r.path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string", "minLength": 1}})
	}
	for _, p := range r.query {
		params = append(params, object{"name": p.name, "in": "query", "description": p.about, "schema": p.schema()})
	}
	if r.changes {
		params = append(params, object{
			"name": "If-Match", "in": "header", "description": "the ETag of an answer; the change is refused if the generation is another one by now",
			"schema": object{"type": "string", "pattern": `^(\*|(W/)?"[^"]*"( *, *(W/)?"[^"]*")*)$`},
		})
	}
	op := object{
		"operationId": r.operation, "summary": r.about, "description": "Role: " + string(r.role) + ".", "parameters": params,
		"responses": d.responses(r),
		"security":  []any{object{"token": []any{}}},
	}
	if r.role == helvetype.RoleRead {
		op["security"] = []any{object{}, object{"token": []any{}}} // on the loopback interface there may be none
	}
	if r.body != nil {
		op["requestBody"] = object{"required": !r.optional, "content": d.body(r.body)}
	}
	return op
}

// failures are the statuses of errors with their meaning, in the order of the table of docs/rest.md.
//
//nolint:gochecknoglobals // constants
var failures = []struct {
	status int
	about  string
	of     func(r *route) bool
}{
	{400, "The file, the body or an argument is wrong; mistakes has the places in a file.", func(r *route) bool {
		return r.body != nil || r.changes || len(r.query) > 0
	}},
	{401, "There is no token, or the node does not know it.", func(*route) bool { return true }},
	{403, "The role of the token does not allow it, or a web page of another site asks.", func(*route) bool { return true }},
	{404, "There is no such application, deployment, replica, revision, token or profile; the message has the names there are.", func(r *route) bool {
		return strings.Contains(r.path, "{")
	}},
	{409, "Another deploy has come before this one ran, or there is a token of this name.", func(r *route) bool {
		return r.changes
	}},
	{412, "If-Match is another generation, or the state of the object does not allow it. ETag has the present generation.", func(r *route) bool {
		return r.changes
	}},
	{413, "The body has more than 4 MiB.", func(r *route) bool { return r.body != nil }},
	{501, "This node cannot do it: for example, a program that only answers questions has no operations.", func(*route) bool { return true }},
	{503, "The node is closing, hands over to the next one, or has too many readers that follow. Retry-After says when to come again.", func(*route) bool { return true }},
}

// responses are the answers of a route: done, each error that it has, and the rest.
func (d *schemas) responses(r *route) object {
	content := object{"application/json": object{"schema": d.schema(reflect.TypeFor[helvetype.OperationError](), false)}}
	all := object{
		"200":     object{"description": "It is done.", "content": d.answer(r.answer)},
		"default": object{"description": "It is not done: the status says why, and the body what to try next.", "content": content},
	}
	for _, f := range failures {
		if f.of(r) {
			all[strconv.Itoa(f.status)] = object{"description": f.about, "content": content}
		}
	}
	return all
}

func (p param) schema() object {
	s := object{"type": p.kind}
	switch {
	case p.kind == "integer":
		s["minimum"] = p.min
		if p.max > 0 {
			s["maximum"] = p.max
		}
	case p.words != nil:
		s["enum"] = append([]string{""}, p.words...) // an empty one is as none
	}
	return s
}

func (d *schemas) body(body any) object {
	kinds, ok := body.(document)
	if !ok {
		return object{"application/json": object{"schema": d.schema(reflect.TypeOf(body), true)}}
	}
	content := object{}
	for _, kind := range kinds {
		content[kind] = object{"schema": object{"type": "object"}}
	}
	return content
}

func (d *schemas) answer(of any) object {
	switch of := of.(type) {
	case media:
		content := object{}
		for _, kind := range of {
			content[kind] = object{}
		}
		return content
	case stream:
		content := object{}
		for _, kind := range streams {
			content[kind] = object{"schema": object{"type": "string"}}
		}
		content["application/jsonl"] = object{"schema": object{"type": "string", "description": "a line for each: " + reflect.TypeOf(of.item).Name()}}
		content["application/json"] = object{"schema": d.schema(reflect.TypeOf(of.list), false)}
		return content
	}
	return object{"application/json": object{"schema": d.schema(reflect.TypeOf(of), false)}}
}

// schemas makes JSON Schemas of Go types as package encoding/json writes them.
type schemas struct {
	of    object
	types map[string]reflect.Type // of each name, so that two types do not share one
}

// schema is the schema of a type. A struct of a body takes no other fields than its own.
func (d *schemas) schema(t reflect.Type, body bool) object {
	switch t {
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[any]():
		return object{}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[helvetype.Role]():
		return object{"type": "string", "enum": []any{helvetype.RoleRead, helvetype.RoleOperate, helvetype.RoleDeploy}}
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64, reflect.Float32:
		return object{"type": "number"}
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Pointer:
		return object{"anyOf": []any{d.schema(t.Elem(), body), object{"type": "null"}}}
	case reflect.Slice:
		return object{"type": []any{"array", "null"}, "items": d.schema(t.Elem(), body)}
	case reflect.Map:
		s := object{"type": "object", "additionalProperties": d.schema(t.Elem(), body)}
		if !body {
			s["type"] = []any{"object", "null"}
		}
		return s
	case reflect.Struct:
		if t.Name() == "" {
			return d.structure(t, body)
		}
		name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
		if t == reflect.TypeFor[token.Info]() {
			name = "Token"
		}
		if other := d.types[name]; other != nil && other != t { // for example, details.ScalingDecision is Ray Serve's, and helvetype.ScalingDecision is another one
			before, _, _ := strings.Cut(t.String(), ".")
			name = strings.ToUpper(before[:1]) + before[1:] + name
		}
		d.types[name] = t
		if d.of[name] == nil {
			d.of[name] = object{} // for a type that contains itself
			d.of[name] = d.structure(t, body)
		}
		return object{"$ref": "#/components/schemas/" + name}
	}
	return object{"type": "integer"}
}

func (d *schemas) structure(t reflect.Type, body bool) object {
	fields, required := object{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		name, optional := jsonbody.FieldName(f)
		if name == "" || len(f.Index) > 1 && !t.FieldByIndex(f.Index[:1]).Anonymous {
			continue
		}
		s := d.schema(f.Type, body)
		if least := f.Tag.Get("min"); least != "" {
			s["minimum"] = json.Number(least)
		}
		fields[name] = s
		if !optional {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	s := object{"type": "object", "properties": fields, "required": required}
	if body {
		s["additionalProperties"] = false
	}
	return s
}
