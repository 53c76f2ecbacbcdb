package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/kernel"
)

// Config has the settings of a keeper.
type Config struct {
	Version string   `json:"version"`
	Name    string   `json:"name"` // of the program, for the command line that its processes show
	Args    []string `json:"args"` // of the command node, without its control connection
	Env     []string `json:"env"`  // of nodes and workers
	Dir     string   `json:"dir"`  // the state directory
	// Watchdog is how long a node may not answer before it is ended; 0 for ever.
	Watchdog time.Duration `json:"watchdog"`
	Verbose  bool          `json:"verbose,omitempty"`
	// JSONLog says that the log on stderr has a line of JSON per record.
	JSONLog bool `json:"json_log,omitempty"`
	// Reloads says that SIGHUP has the node read its certificate again.
	Reloads bool `json:"reloads,omitempty"`
}

// Listener is a listening socket, which each node gets.
type Listener struct {
	Kind    string `json:"kind"`    // "http" or "admin"
	Address string `json:"address"` // that it was opened with
	FD      int    `json:"fd"`
}

// The kinds of listeners.
const (
	HTTP  = "http"
	Admin = "admin"
)

// State is everything that a keeper knows. The program before it hands it over in a file in memory, with all descriptors: `helve start`, which has
// opened the sockets, or a keeper that becomes one of another version. Fields that a program does not know are lost; one that it misses is zero.
type State struct {
	Config    Config     `json:"config"`
	Listeners []Listener `json:"listeners"`
	Mark      int        `json:"mark"`   // the locked mark of the state directory
	Socket    int        `json:"socket"` // the listening socket of commands
	Family    string     `json:"family"` // begins the family names of all workers
	Since     time.Time  `json:"since"`

	// The fields below are empty when the keeper begins.

	Guard    [2]int      `json:"guard"`
	Children []*child    `json:"children,omitempty"`
	Nodes    []nodeState `json:"nodes,omitempty"`
	Starts   int         `json:"starts,omitempty"`
	LastEnd  string      `json:"last_end,omitempty"`
	EverRan  bool        `json:"ever_ran,omitempty"`
}

// nodeState is a node as the next program finds it.
type nodeState struct {
	PID     int         `json:"pid"`
	FD      int         `json:"fd"`             // its control connection
	Rest    []byte      `json:"rest,omitempty"` // received, and not a whole line
	Files   []int       `json:"files,omitempty"`
	Ready   time.Time   `json:"ready"` // zero before
	Version string      `json:"version"`
	URLs    []string    `json:"urls,omitempty"`
	Last    uint64      `json:"last,omitempty"` // the id of the last request to it
	Current bool        `json:"current,omitempty"`
	Waits   []waitState `json:"waits,omitempty"` // requests that wait for the end of a child
}

// waitState is a request for the status of a child.
type waitState struct {
	ID  uint64 `json:"id"`
	PID int    `json:"pid"`
}

// descriptors are those that the next program gets.
func (s *State) descriptors() []int {
	fds := []int{s.Mark, s.Socket}
	if s.Guard != [2]int{} {
		fds = append(fds, s.Guard[0], s.Guard[1])
	}
	for _, l := range s.Listeners {
		fds = append(fds, l.FD)
	}
	for _, n := range s.Nodes {
		fds = append(append(fds, n.FD), n.Files...)
	}
	return fds
}

// stateEnv has the descriptor of the state in the environment of a keeper.
const stateEnv = "HELVE_KEEPER"

// Exec replaces the program of this process by a keeper: the executable at path with the state. It returns only if it fails, and then all is as it
// was before. A keeper with children calls it on its main thread.
func (s *State) Exec(path string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := kernel.MemoryFile("keeper")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	fds := append(s.descriptors(), int(f.Fd()))
	for _, fd := range fds {
		if err := inherit(fd, true); err != nil {
			err = fmt.Errorf("descriptor %d: %w", fd, err)
			s.keep(fds)
			return err
		}
	}
	env := append(s.Config.Env[:len(s.Config.Env):len(s.Config.Env)], stateEnv+"="+strconv.Itoa(int(f.Fd())))
	argv := []string{s.Config.Name, "start", "--state-dir=" + s.Config.Dir} // what ps shows
	err = syscall.Exec(path, argv, env)
	s.keep(fds)
	return fmt.Errorf("%s: %w", path, err)
}

// keep has no child inherit the descriptors.
func (s *State) keep(fds []int) {
	for _, fd := range fds {
		inherit(fd, false) //nolint:errcheck // it was looked at before
	}
}

// inherit says whether a program that this process executes has a descriptor.
func inherit(fd int, on bool) error {
	flags := syscall.FD_CLOEXEC
	if on {
		flags = 0
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, uintptr(flags)); errno != 0 {
		return errno
	}
	return nil
}

// readState reads the state that the program before has left.
func readState(fd string) (s State, err error) {
	n, err := strconv.Atoi(fd)
	if err != nil || n <= 2 {
		return s, errors.New("there is no state of a keeper")
	}
	f := os.NewFile(uintptr(n), "state")
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("the state of the keeper: %w", err)
	}
	s.keep(s.descriptors())
	return s, nil
}
