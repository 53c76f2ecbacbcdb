package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// UnixScheme begins the address of a unix socket, for example "unix:/run/helve.sock".
const UnixScheme = "unix:"

// Addresses are the addresses in a list with commas, for example "127.0.0.1:8000,unix:/run/helve.sock".
func Addresses(list string) []string {
	var all []string
	for a := range strings.SplitSeq(list, ",") {
		if a = strings.TrimSpace(a); a != "" {
			all = append(all, a)
		}
	}
	return all
}

// Check returns an error if an address of a list is neither host and port nor the path of a unix socket. An empty list is none, but an address
// between two commas is not empty: in "127.0.0.1:$PORT," the program that made the list has forgotten one.
func Check(list string) error {
	if list != "" {
		for address := range strings.SplitSeq(list, ",") {
			if strings.TrimSpace(address) == "" {
				return fmt.Errorf("an address of %q is empty", list)
			}
		}
	}
	for _, address := range Addresses(list) {
		path, unix := strings.CutPrefix(address, UnixScheme)
		if unix {
			if path == "" || len(path) > longestPath {
				return fmt.Errorf("%s: the path of a unix socket must have 1 to %d bytes", address, longestPath)
			}
			continue
		}
		_, port, err := net.SplitHostPort(address)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// longestPath is the longest path that a unix socket may have on Linux.
const longestPath = 107

// Open listens on an address: host and port for TCP, or "unix:" and a path. A socket that a process left behind when it was killed is
// removed; one that a process listens on is an error.
func Open(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, UnixScheme)
	if !unix {
		return net.Listen("tcp", address)
	}
	l, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	info, statErr := os.Lstat(path)
	if statErr != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, err
	}
	if c, dialErr := net.DialTimeout("unix", path, time.Second); dialErr == nil {
		c.Close()
		return nil, err
	} else if !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, err
	}
	if os.Remove(path) != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// OpenAll listens on all addresses of a list, or on none.
func OpenAll(list string) ([]net.Listener, error) {
	var all []net.Listener
	for _, address := range Addresses(list) {
		l, err := Open(address)
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}
