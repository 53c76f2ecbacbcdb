package commands

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/helve-serve/helve/internal/shown"
)

// print writes a value in the form of --output: the text that text makes, JSON, or YAML. A reader that has closed the output is no error.
func (r *reader) print(w io.Writer, value any, text func() string) error {
	if r.output == "text" {
		_, err := io.WriteString(w, shown.Safe(text()))
		return shown.Written(err)
	}
	b, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if r.output == "yaml" {
		b, err = shown.YAML(b)
	} else {
		b = append(shown.JSON(b), '\n')
	}
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return shown.Written(err)
}

// line writes a value of a stream: a line of JSON, a document of YAML, or the line that text makes.
func (r *reader) line(w io.Writer, value any, text func() string) error {
	if r.output == "text" {
		_, err := fmt.Fprintln(w, shown.Safe(text()))
		return err
	}
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if r.output == "json" {
		_, err = fmt.Fprintf(w, "%s\n", shown.JSON(b))
		return err
	}
	if b, err = shown.YAML(b); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "---\n%s", b)
	return err
}
