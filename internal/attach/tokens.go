package attach

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/token"
	"github.com/helve-serve/helve/internal/worker"
)

// Tokens gives the first token of the node of this user that runs on this machine and has the address; none if there is no such node. A token goes to its
// own node alone: for example, while no node listens on 127.0.0.1:8265, another user of the machine may listen there, and must not get it.
func Tokens(address string) func() []string {
	return func() (all []string) {
		states := worker.DurableStates("")
		if home, err := os.UserHomeDir(); err == nil {
			states = append(states, filepath.Join(home, ".local", "state", "helve"))
		}
		if os.Getuid() == 0 {
			states = append(states, "/var/lib/helve")
		}
		sockets := worker.AdminSockets("")
		for _, dir := range states {
			if socket, err := AdminSocket(dir); err == nil && socket != "" {
				sockets = append(sockets, socket)
			}
		}
		var private []string
		for _, socket := range sockets {
			private = append(private, filepath.Dir(socket))
		}
		for _, at := range urlsOf(address) {
			if text := token.Find(at, private); text != "" && !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
		return all
	}
}

// urlsOf are the URLs under which a node may know an address.
func urlsOf(address string) (urls []string) {
	scheme, host, ok := strings.Cut(strings.TrimSuffix(address, "/"), "://")
	if !ok {
		scheme, host = "http", scheme
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil || !strings.EqualFold(name, "localhost") {
		return []string{scheme + "://" + host}
	}
	return []string{scheme + "://127.0.0.1:" + port, scheme + "://[::1]:" + port}
}
