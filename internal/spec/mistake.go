package spec

import (
	"errors"
	"fmt"
	"strings"
)

// Mistake says what is wrong with an option, or with several.
type Mistake struct {
	deployment string  // "" if it is not known
	options    []label // empty if the mistake is about the options as a whole
	text       string
	cause      error
	forGo      bool // options have their names in Go
}

// newMistake makes the mistake of one option, or of all if of has no path.
func newMistake(of label, format string, args ...any) *Mistake {
	err := fmt.Errorf(format, args...)
	m := &Mistake{text: err.Error(), cause: errors.Unwrap(err)}
	if of.path != "" {
		m.options = []label{of}
	}
	return m
}

// OptionMistake says what is wrong with the option or the group of that path.
func OptionMistake(path, format string, args ...any) error {
	return newMistake(labelAt(path), format, args...)
}

// labelAt finds the label of an option or a group.
func labelAt(path string) label {
	for _, o := range optionTable {
		for depth := range o.names {
			if l := labelOf(o.names[:depth+1]); l.path == path {
				return l
			}
		}
	}
	return label{path: path}
}

// Error is, for example, `deployment "A": num_replicas: must be at least 1, is 0`.
func (m *Mistake) Error() string {
	var b strings.Builder
	if m.deployment != "" {
		fmt.Fprintf(&b, "deployment %q: ", m.deployment)
	}
	for i, l := range m.options {
		if i > 0 {
			b.WriteString(", ")
		}
		if m.forGo {
			b.WriteString(l.inGo())
		} else {
			b.WriteString(l.path)
		}
	}
	if len(m.options) > 0 {
		b.WriteString(": ")
	}
	return b.String() + m.text
}

// Unwrap gives the cause.
func (m *Mistake) Unwrap() error { return m.cause }

// InGo is the mistake with the names that options have in Go: `deployment "A": NumReplicas (num_replicas): must be at least 1, is 0`.
func (m *Mistake) InGo() *Mistake {
	named := *m
	named.forGo = true
	return &named
}

// Mistakes are the mistakes of one set of options.
type Mistakes []error

func (m Mistakes) Error() string { return errors.Join(m...).Error() }

// Unwrap gives each.
func (m Mistakes) Unwrap() []error { return m }

// joined is the error of mistakes; nil for none.
func joined(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return Mistakes(errs)
}

// InDeployment says of each error of options of which deployment they are. An error of type [Mistakes] becomes as many errors.
func InDeployment(deployment string, errs ...error) []error {
	var all []error
	for _, err := range errs {
		if several, ok := errors.AsType[Mistakes](err); ok {
			all = append(all, InDeployment(deployment, several...)...)
			continue
		}
		if m, ok := errors.AsType[*Mistake](err); ok {
			named := *m
			named.deployment = deployment
			all = append(all, &named)
			continue
		}
		all = append(all, fmt.Errorf("deployment %q: %w", deployment, err))
	}
	return all
}

// Paths are the paths of the options that the mistake is about; empty for the options as a whole.
func (m *Mistake) Paths() []string {
	var paths []string
	for _, l := range m.options {
		paths = append(paths, l.path)
	}
	return paths
}

// Deployment is the deployment of the option; "" if it is not known.
func (m *Mistake) Deployment() string { return m.deployment }

// Problem is the mistake without the names of deployment and options.
func (m *Mistake) Problem() string { return m.text }
