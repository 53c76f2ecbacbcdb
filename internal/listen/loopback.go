package listen

import (
	"net/netip"
	"strings"
)

// Loopback says whether a host of an address is on the loopback interface: "localhost", or an IP address that is. No name is looked up.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
