package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/helve-serve/helve/internal/listen"
)

// Options are the settings of the ingress beside its limits. The zero value has the defaults.
type Options struct {
	// RequestTimeout is the longest time of a request, from its header to the end of its answer; 0 for no limit.
	RequestTimeout time.Duration
	// RootPath is put in front of every route prefix, for example "/serve"; "" for none.
	RootPath string
	// TrustForwarded are the networks of the peers whose X-Forwarded headers are believed, for example "10.0.0.0/8"; "unix" stands for the
	// clients of unix sockets.
	TrustForwarded []string
	// DrainDelay is the time from the beginning of a drain, in which the node calls itself unhealthy and serves as before.
	DrainDelay time.Duration
	// JSONLog has the access log in lines of JSON.
	JSONLog bool
	// TLS are the files of the certificate. The zero value is no TLS.
	TLS listen.Files
}

// Check returns an error if an option is wrong, with the name of its field. The files of the certificate are not read.
func (o Options) Check() error {
	switch {
	case o.RequestTimeout < 0:
		return fmt.Errorf("RequestTimeout: must not be negative, is %s", o.RequestTimeout)
	case o.DrainDelay < 0:
		return fmt.Errorf("DrainDelay: must not be negative, is %s", o.DrainDelay)
	case o.RootPath == "/":
		return fmt.Errorf("RootPath: must be empty for no path, is %q", o.RootPath)
	case o.RootPath != "":
		if err := CheckPrefix(o.RootPath); err != nil {
			return fmt.Errorf("RootPath: %s", strings.ReplaceAll(err.Error(), "route_prefix ", ""))
		}
	}
	if _, err := networks(o.TrustForwarded); err != nil {
		return err
	}
	if err := o.TLS.Check(); err != nil {
		return fmt.Errorf("TLS.%w", err)
	}
	return nil
}

// trusted are the peers whose X-Forwarded headers are believed.
type trusted struct {
	networks []netip.Prefix
	unix     bool
}

func networks(list []string) (t trusted, err error) {
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
func (t *trusted) of(address netip.Addr) bool {
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

// forwarded is the request as its client sent it to the first of the proxies in front of the node, if the peer is one of them. The client is the
// last address of X-Forwarded-For that is not itself trusted: all before it may be the client's own text. For example, with
// 10.0.0.0/8 trusted, "6.6.6.6, 203.0.113.7, 10.0.0.9" is the client 203.0.113.7.
func (t *trusted) forwarded(r *http.Request) *http.Request {
	at := peer(r.RemoteAddr)
	if at.IsValid() && !t.of(at) || !at.IsValid() && !t.unix {
		return r
	}
	changed := rebased(r)
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

// rebased is a copy of a request whose URL may be changed.
func rebased(r *http.Request) *http.Request {
	changed, u := new(http.Request), new(url.URL)
	*changed, *u = *r, *r.URL
	changed.URL = u
	return changed
}

// external is a request as applications see it: its scheme and host are as the client has sent them, and its path is without the root
// path. A proxy in front may have removed that already, so a path without it stays as it is. For example, with the root path
// "/serve" the paths "/serve/hello" and "/hello" are both "/hello".
func (p *Proxy) external(r *http.Request) *http.Request {
	switch {
	case r.TLS != nil:
		r = rebased(r)
		r.URL.Scheme = "https"
	case r.URL.Scheme != "": // the client has sent a whole URL as its path, in which it says what it likes
		r = rebased(r)
		r.URL.Scheme = "http"
	}
	if p.trusted != nil {
		r = p.trusted.forwarded(r)
	}
	if root := p.options.RootPath; root != "" && under(root, r.URL.Path) {
		r = stripPrefix(root, rebased(r))
	}
	return r
}

// under reports whether a prefix matches a path.
func under(prefix, path string) bool {
	return prefix == "/" || strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// External is the prefix of an application as its clients see it: with the root path in front.
func (p *Proxy) External(prefix string) string {
	if root := p.options.RootPath; root != "" {
		return root + strings.TrimSuffix(prefix, "/")
	}
	return prefix
}
