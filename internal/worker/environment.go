package worker

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
)

// WithVariables is an environment with variables added or replaced: of two of one name the later counts.
func WithVariables(env []string, vars map[string]string) []string {
	env = slices.Clone(env)
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, k+"="+vars[k])
	}
	return env
}

// Variable is a variable of an environment; nil is that of this process.
func Variable(env []string, name string) string {
	if env == nil {
		return os.Getenv(name)
	}
	for _, e := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// Fingerprint changes when a file, such as the executable of a worker, is replaced or written to.
func Fingerprint(path string) string {
	st, err := os.Stat(path)
	if err != nil {
		return ""
	}
	sys, _ := st.Sys().(*syscall.Stat_t)
	if sys == nil {
		return ""
	}
	return fmt.Sprint(sys.Dev, sys.Ino, st.Size(), st.ModTime().UnixNano())
}

// ProcessState is the kernel's description of a process that cannot report itself.
func ProcessState(pid int) string {
	var b strings.Builder
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "State:") || strings.HasPrefix(line, "Threads:") {
			b.WriteString(strings.Replace(line, "\t", " ", 1))
		}
	}
	if wchan, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid)); err == nil && len(wchan) > 0 && string(wchan) != "0" {
		fmt.Fprintf(&b, "Waits in: %s\n", wchan)
	}
	if stack, err := os.ReadFile(fmt.Sprintf("/proc/%d/stack", pid)); err == nil { // root only
		b.Write(stack)
	}
	return b.String()
}
