package disk

import (
	"errors"
	"fmt"
)

// DamageError says that a file is not as it was written, or is missing. It was left as it is.
type DamageError struct {
	Path, Problem string
	Export        bool // an export, and not a state directory
}

func (e *DamageError) Error() string {
	if e.Export {
		return fmt.Sprintf("%s is damaged: %s. Nothing was changed. Take another export of the state (helve state export)", e.Path, e.Problem)
	}
	return fmt.Sprintf("%s is damaged: %s. Nothing was changed. With an export of the state (helve state export) start with --recover FILE; "+
		"without one, move the directory away and deploy the applications again", e.Path, e.Problem)
}

// FormatError says that a newer program has written a file.
type FormatError struct {
	Path   string
	Format int // of the file
	Reads  int // the newest format that this program reads
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s has format %d, which a newer version of Helve has written; this one reads up to format %d. Start the newer version, "+
		"or take another state directory", e.Path, e.Format, e.Reads)
}

// WriteError says that records were not written, for example because the disk is full. Calls and replicas go on.
type WriteError struct {
	Path string
	Err  error
}

func (e *WriteError) Error() string {
	return fmt.Sprintf("the state was not written to %s, and what runs goes on unchanged: %v", e.Path, e.Err)
}

func (e *WriteError) Unwrap() error { return e.Err }

// named gives the error of a file with the file's name.
func named(path string, err error) error {
	if f, ok := errors.AsType[*FormatError](err); ok {
		return &FormatError{path, f.Format, f.Reads}
	}
	if f, ok := errors.AsType[*fileError](err); ok {
		return fmt.Errorf("%s cannot be read: %w", path, f.error)
	}
	return &DamageError{Path: path, Problem: err.Error()}
}

// namedExport is [named] for an export.
func namedExport(path string, err error) error {
	err = named(path, err)
	if d, ok := errors.AsType[*DamageError](err); ok {
		d.Export = true
	}
	return err
}
