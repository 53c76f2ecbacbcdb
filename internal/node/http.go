package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/proxy"
)

// Serve opens the HTTP ingress on a listener; there may be several. The error of a listener that ends by itself arrives on the channel. Clients
// of TCP speak TLS if the node has a certificate. A node that is closing takes no more: it gives an error and leaves l alone.
func (n *Node) Serve(l net.Listener) (url string, failed <-chan error, err error) {
	var secure *tls.Config
	if n.secure != nil && l.Addr().Network() != "unix" {
		secure = n.secure.Config()
	}
	return n.ServeTLS(l, secure)
}

// ServeTLS is Serve with the TLS configuration of the listener; nil for none.
func (n *Node) ServeTLS(l net.Listener, secure *tls.Config) (url string, failed <-chan error, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return "", nil, errors.New("the node is closing")
	}
	url = urlOf(l.Addr(), secure != nil)
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && !slices.ContainsFunc(n.urls, isHTTP) {
		n.everywhere = tcp.IP.IsUnspecified()
	}
	n.urls = append(n.urls, url)
	c := make(chan error, 1)
	n.wg.Go(func() {
		if err := n.proxy.Serve(l, secure); err != nil {
			c <- err
		}
	})
	return url, c, nil
}

// urlOf is the URL of a listener; for a unix socket, whose clients name it beside the URL, it is "unix:" and its path. A listener on all
// addresses has the one that a client on this machine uses: for example, http://127.0.0.1:8000 for 0.0.0.0:8000.
func urlOf(a net.Addr, secure bool) string {
	if a.Network() == "unix" {
		return listen.UnixScheme + a.String()
	}
	at := a.String()
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		at = net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	if secure {
		return "https://" + at
	}
	return "http://" + at
}

// HTTP is the URL of the ingress, "" without one. Of several it is the first over TCP, because a client needs more than the URL for a unix socket.
func (n *Node) HTTP() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.urls) == 0 {
		return ""
	}
	if i := slices.IndexFunc(n.urls, isHTTP); i >= 0 {
		return n.urls[i]
	}
	return n.urls[0]
}

// isHTTP says that a URL of [urlOf] is over TCP.
func isHTTP(url string) bool { return !strings.HasPrefix(url, listen.UnixScheme) }

// URLs are the URLs of all listeners of the ingress.
func (n *Node) URLs() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.urls)
}

// Handler is the ingress for a server that is not the node's own.
func (n *Node) Handler() http.Handler { return n.proxy }

// useCertificate has the certificate follow its files until the node has closed.
func (n *Node) useCertificate(c *listen.Certificate) {
	if c == nil {
		return
	}
	n.secure = c
	n.wg.Go(func() { c.Watch(n.ctx) })
}

// ReloadCertificate reads the files of the certificate now; without TLS it does nothing.
func (n *Node) ReloadCertificate() error {
	if n.secure == nil {
		return nil
	}
	return n.secure.Reload()
}

// OpenHTTP opens the HTTP ingress if port is set and it is not open yet, and gives its URL; "" without one. Options that are set replace those of
// the node, and so does an idle time above 0.
func (n *Node) OpenHTTP(host string, port *int, o proxy.Options, idle time.Duration) (url string, err error) {
	if url := n.HTTP(); port == nil || url != "" {
		return url, nil
	}
	if err := n.configure(o, idle); err != nil {
		return "", call.NewError(helvetype.ReasonBadInput, err.Error())
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(*port)))
	if err != nil {
		return "", call.NewError(helvetype.ReasonBadInput, err.Error())
	}
	url, failed, err := n.Serve(l)
	if err != nil {
		l.Close()
		return "", err
	}
	n.wg.Go(func() {
		select {
		case err := <-failed:
			n.log.Error("the HTTP listener has failed", "error", err)
		case <-n.ctx.Done():
		}
	})
	return url, nil
}

// configure merges the options of a driver into those of the node.
func (n *Node) configure(o proxy.Options, idle time.Duration) error {
	all := n.proxy.Options()
	if o.RequestTimeout != 0 {
		all.RequestTimeout = o.RequestTimeout
	}
	if o.RootPath != "" {
		all.RootPath = o.RootPath
	}
	if o.TLS != (listen.Files{}) {
		all.TLS = o.TLS
	}
	if err := all.Check(); err != nil {
		return fmt.Errorf("http_options: %w", err)
	}
	if idle < 0 {
		return fmt.Errorf("http_options: keep_alive_timeout_s must not be negative, is %s", idle)
	}
	if o.TLS != (listen.Files{}) {
		c, err := listen.NewCertificate(o.TLS, n.log)
		if err != nil {
			return fmt.Errorf("http_options: TLS.%w", err)
		}
		n.useCertificate(c)
	}
	n.proxy.Configure(all, idle)
	n.started.Store(&all)
	return nil
}
