package helve

import (
	"time"

	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/system"
)

// HTTPOptions are the settings of the HTTP ingress beside its limits. A field that is zero has no effect.
type HTTPOptions struct {
	// RequestTimeout is the longest time of a request, from its header to the end of its answer, with its time in the queue. Over it the
	// call is cancelled, and the client gets 408, or a connection that is cut off if the answer has begun. A connection that is
	// upgraded is a request until it is upgraded. A client can shorten it for its request by the header X-Request-Timeout-Seconds. 0 for no limit.
	RequestTimeout time.Duration
	// RootPath is put in front of every route prefix, for example "/serve", for a load balancer or a router of the program in front that
	// gives the node one part of its paths, with this prefix or without it.
	RootPath string
	// TrustForwarded are the networks of the proxies in front of the node, such as "10.0.0.0/8" or "127.0.0.1", and "unix" for clients of unix
	// sockets. Their headers X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host name the client, scheme and host of a request. Those of
	// all others are passed on, and mean nothing to the node.
	TrustForwarded []string
	// DrainDelay is the time from the beginning of [System.Close] in which the node answers /-/healthz with 503 and serves as before, for
	// load balancers to notice. Then the listeners close.
	DrainDelay time.Duration
	// AccessLogFormat is the form of the lines of [Config].AccessLog: "text", which is the default, or "json".
	AccessLogFormat string
	// TLS has the files of the certificate. With it the clients of every TCP address speak TLS, with HTTP/2 or HTTP/1.1.
	TLS TLS
}

// TLS are the files of a certificate, in PEM. The node looks at them every 5 s, and new connections get a certificate that has changed, while
// open connections go on. If the new files are not valid the certificate before stays, and the log says why.
type TLS struct {
	Certificate string // the certificate, and after it those of its issuers
	Key         string // the private key
	KeyPassword string // of a key that is encrypted
	ClientCA    string // the authorities whose certificates clients must have; "" for clients without a certificate
}

// options are o for the proxy.
func (o HTTPOptions) options() proxy.Options {
	return proxy.Options{
		RequestTimeout: o.RequestTimeout, RootPath: o.RootPath, TrustForwarded: o.TrustForwarded, DrainDelay: o.DrainDelay,
		JSONLog: o.AccessLogFormat == system.LogJSON, TLS: listen.Files(o.TLS),
	}
}
