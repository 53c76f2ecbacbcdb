package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os/user"
	"strconv"
	"strings"
	"sync"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/rest"
)

// anonymous is the name of an author without a token. It is no name of a token, and no user has it on the machines that Helve knows.
const anonymous = "-"

// viaSocket is the way of requests over the unix socket.
const viaSocket = "socket"

type authorKey struct{}

// authorOf is the author of a request; the guards below have put it into the context.
func authorOf(r *http.Request) helvetype.Author {
	by, _ := r.Context().Value(authorKey{}).(helvetype.Author)
	return by
}

func withAuthor(r *http.Request, by helvetype.Author) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), authorKey{}, by))
}

type connKey struct{}

// withConn lets handlers ask who is at the other end of a socket.
func withConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

// trusted serves requests over the unix socket. The file system lets the user of the node in, and root, who may do everything.
func trusted(h http.Handler) http.Handler {
	var names sync.Map // of users by their number
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		by := helvetype.Author{Name: "unknown", Role: helvetype.RoleDeploy, Via: viaSocket}
		if u, ok := unixConn(r.Context().Value(connKey{})); ok {
			if uid, err := kernel.PeerUID(u); err == nil {
				name, ok := names.Load(uid)
				if !ok {
					name = userName(uid)
					names.Store(uid, name)
				}
				by.Name, _ = name.(string)
			}
		}
		h.ServeHTTP(w, withAuthor(r, by))
	})
}

func unixConn(v any) (*net.UnixConn, bool) {
	u, ok := v.(*net.UnixConn)
	return u, ok
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", uid)
}

// local lets requests through that come over the loopback interface from programs, and from pages of the admin interface itself. A request without a token
// may read.
func (a *Server) local(h http.Handler) http.Handler {
	h = a.authenticated(h, helvetype.RoleRead)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if !listen.Loopback(strings.Trim(host, "[]")) {
			a.forbidden(w, r, "the host %q is not on the loopback interface", r.Host)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// remote lets requests with a token through, over TLS.
func (a *Server) remote(h http.Handler) http.Handler { return a.authenticated(h, "") }

// authenticated finds the author of a request, who has the given role without a token. Web pages of other sites are refused.
func (a *Server) authenticated(h http.Handler, without helvetype.Role) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" {
			if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
				a.forbidden(w, r, "web pages of %q may not use this", origin)
				return
			}
		}
		if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" && !visit(r) {
			a.forbidden(w, r, "web pages of another site may not use this")
			return
		}
		by := stranger(r)
		by.Role = without
		if given := r.Header.Values("Authorization"); len(given) > 0 {
			scheme, text, _ := strings.Cut(given[0], " ")
			if len(given) > 1 || !strings.EqualFold(scheme, "Bearer") || a.set.Tokens == nil {
				a.unauthorized(w, r, "the header Authorization must be \"Bearer TOKEN\"")
				return
			}
			info, ok := a.set.Tokens.Check(strings.TrimSpace(text))
			if !ok {
				a.unauthorized(w, r, "the node does not know this token")
				return
			}
			by.Name, by.Role = info.Name, info.Role
		}
		h.ServeHTTP(w, withAuthor(r, by))
	})
}

// stranger is the author of a request over TCP without a token that the node knows.
func stranger(r *http.Request) helvetype.Author {
	return helvetype.Author{Name: anonymous, Via: "rest", Address: clientAddress(r.RemoteAddr)}
}

// forbidden answers a request that comes, or may come, from a web page of another site.
func (a *Server) forbidden(w http.ResponseWriter, r *http.Request, format string, args ...any) {
	a.refused(r, stranger(r), "request", fmt.Sprintf(format, args...))
	fail(w, http.StatusForbidden, format, args...)
}

// unauthorized answers a request with a token that is none of the node.
func (a *Server) unauthorized(w http.ResponseWriter, r *http.Request, message string) {
	a.refused(r, stranger(r), "request", message)
	w.Header().Set("WWW-Authenticate", `Bearer realm="helve"`)
	answer(w, http.StatusUnauthorized, &helvetype.OperationError{
		Code: helvetype.CodeUnauthenticated, Message: message, Next: "helve token list shows the tokens of the node",
	})
}

// whoami says how the node knows the author of a request, so that a page shows only the operations that its user may do.
func (a *Server) whoami(c *ask) {
	who := rest.Who{Name: c.by.Name, Role: c.by.Role, How: rest.HowToken}
	switch {
	case c.by.Name == anonymous:
		who.Name, who.How = "", rest.HowLoopback
	case c.by.Via == viaSocket:
		who.How = rest.HowSocket
	}
	answer(c.w, http.StatusOK, who)
}

func clientAddress(remote string) string {
	if at, err := netip.ParseAddrPort(remote); err == nil {
		return at.Addr().String()
	}
	return remote
}
