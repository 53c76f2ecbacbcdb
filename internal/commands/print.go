package commands

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
)

// print writes a value in the form of --output: the text that text makes, JSON, or YAML.
func (r *reader) print(w io.Writer, value any, text func() string) error {
	if r.output == "text" {
		_, err := io.WriteString(w, text())
		return err
	}
	b, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if r.output == "yaml" {
		b, err = asYAML(b)
	} else {
		b = append(b, '\n')
	}
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// line writes a value of a stream: a line of JSON, a document of YAML, or the line that text makes.
func (r *reader) line(w io.Writer, value any, text func() string) error {
	if r.output == "text" {
		_, err := fmt.Fprintln(w, text())
		return err
	}
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if r.output == "json" {
		_, err = fmt.Fprintf(w, "%s\n", b)
		return err
	}
	if b, err = asYAML(b); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "---\n%s", b)
	return err
}

// asYAML is a text in JSON as YAML, with the order of its fields. Texts of several lines are blocks.
func asYAML(text []byte) ([]byte, error) {
	var value any
	if err := yaml.UnmarshalWithOptions(text, &value, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	return yaml.MarshalWithOptions(value, yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(false), yaml.CustomMarshaler(number))
}

// number is a number as JSON has it: 1796009420.993, and not 1.796009420993e+09.
func number(f float64) ([]byte, error) { return json.Marshal(f) }

// fromYAML reads YAML into a value of JSON.
func fromYAML(text []byte, to any) error {
	b, err := yaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}
