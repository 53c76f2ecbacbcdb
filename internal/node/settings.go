package node

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/spec"
)

// UseSettings makes settings those of the node. A node that starts has no listener yet, and takes also the options that cannot change while it serves. The warnings
// are about options that the node does not take now, each with the way to change it.
func (n *Node) UseSettings(s control.NodeSettings, starts bool) (warnings []string, err error) {
	n.SetCapacity(s.TargetCapacity)
	if s.HTTP == nil {
		return nil, nil
	}
	o, h := n.proxy.Options(), s.HTTP
	if h.RequestTimeout != nil {
		o.RequestTimeout = time.Duration(min(*h.RequestTimeout, spec.MaxDuration.Seconds()) * float64(time.Second))
	}
	if h.RootPath != nil {
		o.RootPath = *h.RootPath
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	if starts {
		idle := time.Duration(0)
		if h.KeepAlive != nil {
			idle = time.Duration(min(*h.KeepAlive, spec.MaxDuration.Seconds()) * float64(time.Second))
		}
		n.proxy.Configure(o, idle)
		return nil, nil
	}
	if now := n.proxy.Options(); o.RequestTimeout != now.RequestTimeout || o.RootPath != now.RootPath {
		n.proxy.SetOptions(o.RequestTimeout, o.RootPath)
		n.Publish()
	}
	if h.KeepAlive != nil {
		warnings = append(warnings, "keep_alive_timeout_s holds from the next start of the node")
	}
	if h.Certificate != nil || h.Key != nil || h.ClientCA != nil || h.KeyPassword != nil {
		warnings = append(warnings, "the certificate is that of helve start --tls-certificate and --tls-key; files with the same paths are read again when they change")
	}
	return append(warnings, n.elsewhere(h.Host, h.Port)...), nil
}

// elsewhere is the warning for an address that the node does not listen on.
func (n *Node) elsewhere(host *string, port *int) []string {
	at := n.HTTP()
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || host == nil && port == nil {
		return nil
	}
	wanted := u.Host
	if host != nil {
		name := *host
		if ip := net.ParseIP(name); ip != nil && ip.IsUnspecified() || name == "localhost" {
			name = "127.0.0.1" // the form of URLs of this machine
		}
		wanted = net.JoinHostPort(name, u.Port())
	}
	if name, _, err := net.SplitHostPort(wanted); err == nil && port != nil {
		wanted = net.JoinHostPort(name, strconv.Itoa(*port))
	}
	if wanted == u.Host {
		return nil
	}
	return []string{fmt.Sprintf("the node listens on %s: helve start --http HOST:PORT changes the address", at)}
}
