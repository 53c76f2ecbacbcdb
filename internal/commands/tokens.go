package commands

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/helve-serve/helve/internal/token"
	"github.com/helve-serve/helve/internal/worker"
)

// ownTokens are the first tokens of the nodes of this user on this machine: of the durable ones in their state directories, of the others in their
// private directories.
func ownTokens() (all []string) {
	dirs := worker.DurableStates("")
	for _, socket := range worker.AdminSockets("") {
		dirs = append(dirs, filepath.Dir(socket))
	}
	home, err := os.UserHomeDir()
	if os.Getuid() == 0 {
		dirs = append(dirs, "/var/lib/helve")
	} else if err == nil {
		dirs = append(dirs, filepath.Join(home, ".local", "state", "helve"))
	}
	for _, dir := range dirs {
		if text, err := token.Read(dir); err == nil && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}
