package worker

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// The names of the sockets of a node that commands and programs of the same user find, and of the file with the secret for the second. They
// lie in one [Private] directory.
const (
	AdminSocket  = "admin.sock"
	DriverSocket = "driver.sock"
	DriverToken  = "driver.token" // 64 digits of hex
	FormerSocket = "former.sock"  // for the node before this one: see package node
)

// AttachLink is the name of the symbolic link in a state directory that leads to the private directory of the node that uses it. The private
// directory of each node has another name: a program that keeps the state directory finds the next node, too.
const AttachLink = "attach"

// NodeEnv is the variable that names the node of this process: a state directory, a private directory, or a socket in one.
const NodeEnv = "HELVE_NODE"

// DurableMark is the file in the private directory of a node whose applications outlive it. It has the path of the state directory, in which the next node is
// found too: the private directory of each node has another name.
const DurableMark = "durable"

// AdminSockets are the paths of the admin sockets of the nodes of this user that run now, under dir, or under $HELVE_RUNTIME_DIR or the
// system's temporary directory.
func AdminSockets(dir string) []string { return sockets(dir, AdminSocket) }

// DriverSockets is [AdminSockets] for the sockets at which programs attach.
func DriverSockets(dir string) []string { return sockets(dir, DriverSocket) }

func sockets(dir, name string) []string {
	return slices.DeleteFunc(inPrivate(dir, name), func(path string) bool { return !running(filepath.Dir(path)) })
}

// inPrivate are the files of a name in private directories under dir, also of nodes that were killed.
func inPrivate(dir, name string) []string {
	if dir == "" {
		dir = os.Getenv(RuntimeDirEnv)
	}
	if dir == "" {
		dir = os.TempDir()
	}
	found, _ := filepath.Glob(filepath.Join(dir, "helve-*", name))
	return found
}

// DurableStates are the state directories of the durable nodes of this user whose private directories are under dir, as for [AdminSockets]: of the
// nodes that run, and of killed ones whose keeper starts the next node.
func DurableStates(dir string) (states []string) {
	for _, mark := range inPrivate(dir, DurableMark) {
		private := filepath.Dir(mark)
		if CheckPrivate(private) != nil {
			continue
		}
		b, err := os.ReadFile(mark)
		if state := string(b); err == nil && !slices.Contains(states, state) && (running(private) || kept(state)) {
			states = append(states, state)
		}
	}
	return states
}

// KeeperSocket is the name of the socket of a keeper for commands, in the state directory.
const KeeperSocket = "keeper.sock"

// KeeperPID is the name of the file in the state directory that has the process of the keeper, for scripts.
const KeeperPID = "keeper.pid"

// kept says that a keeper runs in a state directory.
func kept(state string) bool {
	c, err := net.Dial("unix", filepath.Join(state, KeeperSocket))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// running says that a private directory is of a node of this user that has not ended.
func running(private string) bool {
	st, err := os.Lstat(private)
	if err != nil || !st.IsDir() || st.Mode().Perm()&0o022 != 0 {
		return false
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return false
	}
	// A shared lock does not keep another command from asking at the same time, and not a node from taking its own.
	f, err := os.OpenFile(filepath.Join(private, markName), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	return errors.Is(err, syscall.EWOULDBLOCK)
}
