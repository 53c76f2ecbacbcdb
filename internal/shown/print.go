package shown

import (
	"encoding/json"
	"fmt"
	"io"
)

// Print writes a value in a form of --output: "json", "yaml", or "text", the text that text makes. A reader that has closed the output is no error ([Written]).
func Print(w io.Writer, output string, value any, text func() string) error {
	if output == "text" {
		_, err := io.WriteString(w, Safe(text()))
		return Written(err)
	}
	b, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if output == "yaml" {
		b, err = YAML(b)
	} else {
		b = append(JSON(b), '\n')
	}
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return Written(err)
}

// Line writes a value of a stream in a form of --output: a line of JSON, a document of YAML, or the line that text makes.
func Line(w io.Writer, output string, value any, text func() string) error {
	if output == "text" {
		_, err := fmt.Fprintln(w, Safe(text()))
		return err
	}
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if output == "json" {
		_, err = fmt.Fprintf(w, "%s\n", JSON(b))
		return err
	}
	if b, err = YAML(b); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "---\n%s", b)
	return err
}
