package helve

import (
	"time"

	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/spec"
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
	// sockets. Their headers X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host name the client, scheme and host of a request. The
	// headers of all other clients are passed on, and mean nothing to the node.
	TrustForwarded []string
	// DrainDelay is the time from the beginning of a drain ([System.Close], [System.StartDrain]) in which the node answers /-/healthz with 503 and serves as before, for
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

// IngressOptions are the options of one application's ingress. A field that is zero has no effect.
type IngressOptions struct {
	// MaxBody is the largest body of a request; larger ones are answered 413. For a method or a stream it replaces [HTTPLimits].MaxBody, and is at
	// most half of [HTTPLimits].Memory. For a handler it replaces no limit; its reads fail with an *http.MaxBytesError.
	MaxBody int64
	// RequestTimeout is the longest time of a request, as [HTTPOptions].RequestTimeout. The shorter of the two holds.
	RequestTimeout time.Duration
	// CORS lets pages of other origins use the application. nil: browsers do not let them.
	CORS *CORS
}

// CORS says which pages of other origins may send requests to an application and read its answers. The preflight requests of browsers are answered by
// the node, without a slot.
type CORS struct {
	// Origins are the origins, such as "https://app.example.com" or "https://*.example.com", or "*" for all.
	Origins []string
	// Methods are the methods. Default: GET, HEAD, POST, PUT, PATCH and DELETE.
	Methods []string
	// Headers are the headers that a page may send; "*" for all. Default: Accept, Content-Type, and the headers that the node reads.
	Headers []string
	// ExposeHeaders are the headers of an answer that a page may read. Default: X-Request-Id and Retry-After.
	ExposeHeaders []string
	// Credentials lets the pages send cookies. The origins must be named.
	Credentials bool
	// MaxAge is the time for which a browser may keep the answer to a preflight. Default: its own, some seconds.
	MaxAge time.Duration
}

// IngressOptions sets the options of the application's ingress.
func (a *App) IngressOptions(o IngressOptions) {
	a.g.IngressOptions = &spec.IngressOptions{MaxBody: o.MaxBody, RequestTimeout: o.RequestTimeout}
	if o.CORS != nil {
		a.g.IngressOptions.CORS = new(spec.CORS(*o.CORS))
	}
}

// Event is an item of a [Stream] with which the stream chooses the fields of a server-sent event. A stream of any other type is served as
// events, too, to clients that ask for them (Accept: text/event-stream): then each item is the data of an event.
//
//	func (c *Chat) Tokens(ctx context.Context, prompt string) iter.Seq2[helve.Event, error]
//
// Other clients get an Event as JSON, and a handle gets it as any struct.
type Event struct {
	// ID is sent back by a browser that connects again, in the header Last-Event-ID ([RequestFrom]). "": none.
	ID string
	// Event is the name of the event, to which a page listens with addEventListener. "": "message". The names "end" and "error" are used by
	// the proxy for the end of a stream.
	Event string
	// Data is the data: a string as it is, bytes in base64, other values as JSON. nil: none, and browsers do not show such an event to a page.
	Data any
	// Retry is the time after which a browser connects again when the connection has ended. 0: not sent.
	Retry time.Duration
}
