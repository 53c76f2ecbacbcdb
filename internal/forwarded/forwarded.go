// Package forwarded reads the X-Forwarded headers by which proxies in front of a node say how their clients sent a request. Only the headers of
// peers that are trusted count, because any client can send such headers itself.
package forwarded

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Trusted are the peers whose X-Forwarded headers are believed.
type Trusted struct {
	networks []netip.Prefix
	unix     bool
}

// Networks are the peers that a list of networks, addresses and the word unix names.
func Networks(list []string) (*Trusted, error) {
	t := &Trusted{}
	for _, text := range list {
		if text == "unix" {
			t.unix = true
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			address, addressErr := netip.ParseAddr(text)
			if addressErr != nil {
				return t, fmt.Errorf("TrustForwarded: %q is no network such as 10.0.0.0/8, no address and not unix", text)
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		t.networks = append(t.networks, network.Masked())
	}
	return t, nil
}

// of reports whether an address is of a peer whose headers are believed.
func (t *Trusted) of(address netip.Addr) bool {
	for _, n := range t.networks {
		if n.Contains(address) {
			return true
		}
	}
	return false
}

// peer is the address of a client, without the zone and in the form of IPv4 if it is one; not valid if it has none, as a client of a
// unix socket.
func peer(hostPort string) netip.Addr {
	if ap, err := netip.ParseAddrPort(hostPort); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	a, err := netip.ParseAddr(strings.Trim(strings.TrimSpace(hostPort), "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// Original is the request as its client sent it to the first of the proxies in front of the node, if the peer is one of them. The client is the
// last address of X-Forwarded-For that is not itself trusted: all before it may be the client's own text. For example, with
// 10.0.0.0/8 trusted, "6.6.6.6, 203.0.113.7, 10.0.0.9" is the client 203.0.113.7.
func (t *Trusted) Original(r *http.Request) *http.Request {
	at := peer(r.RemoteAddr)
	if at.IsValid() && !t.of(at) || !at.IsValid() && !t.unix {
		return r
	}
	changed := Copy(r)
	if proto := last(r.Header["X-Forwarded-Proto"]); proto == "http" || proto == "https" {
		changed.URL.Scheme = proto
	}
	if host := last(r.Header["X-Forwarded-Host"]); host != "" && !strings.ContainsAny(host, "/\\@ \t") {
		changed.Host = host
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		client := peer(hops[i])
		if !client.IsValid() {
			break
		}
		changed.RemoteAddr = net.JoinHostPort(client.String(), "0")
		if !t.of(client) {
			break
		}
	}
	return changed
}

// last is the last element of a header that is a list with commas: the element of the nearest proxy.
func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	v := values[len(values)-1]
	return strings.TrimSpace(v[strings.LastIndexByte(v, ',')+1:])
}

// Copy is a copy of a request whose URL may be changed.
func Copy(r *http.Request) *http.Request {
	changed, u := new(http.Request), new(url.URL)
	*changed, *u = *r, *r.URL
	changed.URL = u
	return changed
}
