package profile

// The forms in which a profile is shown: a file of pprof, a flame graph, a line for each stack, and a text for people.
const (
	FormPprof  = "pprof"
	FormSVG    = "svg"
	FormFolded = "folded"
	FormText   = "text"
)

// Forms are all forms.
func Forms() []string { return []string{FormPprof, FormSVG, FormFolded, FormText} }

// In is a file of pprof in a form, with the content type of that; "" is [FormPprof]. The title is that of a flame graph.
func In(form string, file []byte, title string) (shown []byte, media string, err error) {
	if form == "" || form == FormPprof {
		return file, "application/octet-stream", nil
	}
	p, err := Decode(file)
	if err != nil {
		return nil, "", err
	}
	switch form {
	case FormSVG:
		return p.SVG(title), "image/svg+xml", nil
	case FormFolded:
		return []byte(p.Folded()), "text/plain; charset=utf-8", nil
	}
	return []byte(p.Text()), "text/plain; charset=utf-8", nil
}
