package worker

import (
	"os"
	"strconv"
	"syscall"
)

// countsEnv has the number of the descriptor of [Command].Counts in the child.
const countsEnv = "HELVE_COUNTS_FD"

// countsFD is that number. A node that takes the child over finds the file by it, in /proc.
func (c *Command) countsFD() int {
	switch {
	case c.Counts == nil:
		return 0
	case c.has(reportStream):
		return reportFD + 1
	}
	return tokenFD + 1
}

// CountsFile is the file of [Command].Counts in the child; nil without one. It stays open under its number, and children of the child do not
// inherit it. A second call gives nil.
func CountsFile() *os.File {
	fd, err := strconv.Atoi(os.Getenv(countsEnv))
	os.Unsetenv(countsEnv) //nolint:errcheck // the name is valid
	if err != nil || fd <= tokenFD {
		return nil
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "counts")
}
