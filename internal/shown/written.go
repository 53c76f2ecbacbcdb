package shown

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Written is the error of a write to the standard output, and nil where the reader of that has closed it: the reader has all that it wants, and the command has done its work. Errors of other files and of connections stay. For
// example, head -1 ends after a line of `helve status | head -1`.
func Written(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(e.Err, syscall.EPIPE) && (e.Path == os.Stdout.Name() || e.Path == os.Stderr.Name()) {
		return nil
	}
	return err
}
