//go:build !linux

package wire

import "net"

// newSocket returns nc: only Linux has a socket that is not in the poller of package net.
func newSocket(nc net.Conn) net.Conn { return nc }
