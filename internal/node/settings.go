package node

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/helve-serve/helve/internal/config"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/logs"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/settings"
	"github.com/helve-serve/helve/internal/spec"
)

// httpSettings are the options of the ingress that a file changes, over those with which the node was started.
type httpSettings struct {
	options proxy.Options
	idle    time.Duration // 0 for that of the node
}

// CheckSettings says what UseSettings would, and changes nothing.
func (n *Node) CheckSettings(s settings.Node) (later, warnings []string, err error) {
	if _, _, err := n.tracing(s.Tracing); err != nil {
		return nil, nil, err
	}
	_, warnings, err = n.httpSettings(s.HTTP)
	if err == nil && s.HTTP != nil {
		later = n.laterSettings(*s.HTTP)
	}
	return later, warnings, err
}

// laterSettings are the paths of the options of the ingress that a node takes when it starts only: the address if it is another one, and the certificate without TLS.
func (n *Node) laterSettings(h config.HTTP) (paths []string) {
	if len(n.elsewhere(h.Host, nil)) > 0 {
		paths = append(paths, "http_options.host")
	}
	if len(n.elsewhere(nil, h.Port)) > 0 {
		paths = append(paths, "http_options.port")
	}
	if n.secure == nil {
		for _, name := range []string{"ssl_certfile", "ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs"} {
			paths = append(paths, "http_options."+name)
		}
	}
	return paths
}

// UseSettings makes settings those of the node. Fields that they do not have are as the node was started: settings that were put back leave nothing. A node that
// starts has no listener yet, and takes also the idle time of connections of HTTP/2. The warnings are about options that the node does not take now, each with the way to change it.
// An error is a *[settings.Error] where one field is wrong, and nothing is changed.
func (n *Node) UseSettings(s settings.Node, starts bool) (warnings []string, err error) {
	ratio, receiver, err := n.tracing(s.Tracing)
	if err != nil && starts { // for example, a variable of a header is not set any more
		n.log.Error("the receiver of spans of a file of applications is not used", "error", err)
	} else if err != nil {
		return nil, err
	}
	next, warnings, err := n.httpSettings(s.HTTP)
	if err != nil && starts { // for example, a file of the certificate is gone: the other settings hold all the same
		n.log.Error("the certificate of a file of applications is not used, but that of the command", "error", err)
		http := *s.HTTP
		http.Certificate, http.Key, http.KeyPassword, http.ClientCA = nil, nil, nil, nil
		next, warnings, err = n.httpSettings(&http)
	}
	if err != nil {
		return nil, err
	}
	if n.secure != nil {
		if err := n.secure.Use(next.options.TLS); err != nil {
			return nil, fileMistake(err)
		}
	}
	n.SetCapacity(s.TargetCapacity, s.Rising)
	n.level.Set(levelOf(s.Logging))
	n.useTracing(s.Tracing, ratio, receiver)
	if starts {
		if s.HTTP != nil {
			n.proxy.Configure(next.options, next.idle)
		}
		return nil, nil
	}
	now := n.proxy.Options()
	n.proxy.SetOptions(next.options.RequestTimeout, next.options.RootPath, next.idle)
	if next.options.RequestTimeout != now.RequestTimeout || next.options.RootPath != now.RootPath {
		n.Publish()
	}
	return warnings, nil
}

// httpSettings are the options that hold with those of a file, and the warnings about the rest; h may be nil.
func (n *Node) httpSettings(h *config.HTTP) (next httpSettings, warnings []string, err error) {
	next.options = *n.started.Load()
	if h == nil {
		return next, nil, nil
	}
	o := &next.options
	if h.RequestTimeout != nil {
		o.RequestTimeout = seconds(*h.RequestTimeout)
	}
	if h.RootPath != nil {
		o.RootPath = *h.RootPath
	}
	if h.KeepAlive != nil {
		next.idle = seconds(*h.KeepAlive)
	}
	if n.secure == nil {
		if h.Certificate != nil || h.Key != nil || h.ClientCA != nil || h.KeyPassword != nil {
			warnings = append(warnings, "the node serves without TLS: helve start --tls-certificate FILE --tls-key FILE turns it on")
		}
	} else if err := n.certificateFiles(h, &o.TLS); err != nil {
		return next, nil, err
	}
	if err := o.Check(); err != nil {
		return next, nil, err
	}
	if n.secure != nil {
		if _, err := listen.NewCertificate(o.TLS, n.log); err != nil {
			return next, nil, fileMistake(err)
		}
	}
	return next, append(warnings, n.elsewhere(h.Host, h.Port)...), nil
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, spec.MaxDuration.Seconds()) * float64(time.Second))
}

// certificateFiles puts the files of a file of applications over those with which the node was started, with the values of placeholders.
func (n *Node) certificateFiles(h *config.HTTP, to *listen.Files) error {
	for _, f := range []struct {
		name string
		from *string
		to   *string
	}{
		{"ssl_certfile", h.Certificate, &to.Certificate},
		{"ssl_keyfile", h.Key, &to.Key},
		{"ssl_keyfile_password", h.KeyPassword, &to.KeyPassword},
		{"ssl_ca_certs", h.ClientCA, &to.ClientCA},
	} {
		if f.from == nil {
			continue
		}
		text, err := n.secrets.Text(*f.from)
		if err != nil {
			return &settings.Error{Field: "http_options." + f.name, Err: err}
		}
		*f.to = text
	}
	return nil
}

// fileMistake is the error of a file of the certificate, with the name of its field in files of applications.
func fileMistake(err error) error {
	m, ok := errors.AsType[*listen.Mistake](err)
	if !ok {
		return err
	}
	field := map[string]string{"Certificate": "ssl_certfile", "Key": "ssl_keyfile", "KeyPassword": "ssl_keyfile_password", "ClientCA": "ssl_ca_certs"}[m.Field]
	return &settings.Error{Field: "http_options." + cmp.Or(field, m.Field), Err: m.Err}
}

// levelOf is the level of a logging_config; nil without one.
func levelOf(config json.RawMessage) *slog.Level {
	var c struct {
		Level any `json:"log_level"`
	}
	if len(config) == 0 || json.Unmarshal(config, &c) != nil {
		return nil
	}
	var level slog.Level
	switch l := c.Level.(type) {
	case string:
		named, ok := logs.Named(l)
		if !ok {
			return nil
		}
		level = named
	case float64: // a number of Python's logging: 10 is DEBUG, 20 is INFO, 30 is WARNING
		level = min(slog.Level(l/10-2)*4, slog.LevelError)
	default:
		return nil
	}
	return &level
}

// allAddresses is the host of a listener on all addresses.
const allAddresses = "0.0.0.0"

// listenHost is the one form of a host on which a node listens. For example, :: is 0.0.0.0, and localhost is 127.0.0.1.
func listenHost(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return allAddresses
	}
	if host == "localhost" {
		return "127.0.0.1"
	}
	return host
}

// elsewhere is the warning for an address that the node does not listen on.
func (n *Node) elsewhere(host *string, port *int) []string {
	at := n.HTTP()
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || host == nil && port == nil {
		return nil
	}
	n.mu.Lock()
	everywhere := n.everywhere
	n.mu.Unlock()
	name, number, err := net.SplitHostPort(u.Host)
	if err != nil {
		return nil
	}
	if everywhere { // the URL has the address that a client on this machine uses
		name = allAddresses
	}
	if (host == nil || listenHost(*host) == name) && (port == nil || strconv.Itoa(*port) == number) {
		return nil
	}
	if everywhere {
		at += " and on all other addresses of the machine"
	}
	if host != nil {
		name = *host
	}
	if port != nil {
		number = strconv.Itoa(*port)
	}
	return []string{fmt.Sprintf("the node listens on %s and goes on there: helve stop, and then helve start --http %s, change the address", at, net.JoinHostPort(name, number))}
}
