package admin

import (
	"net/http"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/profile"
)

// The forms of a profile.
const (
	FormatPprof  = "pprof"
	FormatSVG    = "svg"
	FormatFolded = "folded"
	FormatText   = "text"
)

func profileFormats() []string { return []string{FormatPprof, FormatSVG, FormatFolded, FormatText} }

func profileKinds() (kinds []string) {
	for _, k := range profile.Kinds() {
		kinds = append(kinds, string(k))
	}
	return kinds
}

// profileReplica answers with a profile of a replica's process. A client that leaves ends it.
func (a *Server) profileReplica(c *ask) {
	o := a.operator(c)
	if o == nil {
		return
	}
	of := helvetype.Object{Kind: helvetype.KindReplica, App: c.path("app"), Deployment: c.path("deployment"), Replica: c.path("replica")}
	kind, format := profile.Kind(c.query.Get("kind")), c.query.Get("format")
	if kind == "" {
		kind = profile.CPU
	}
	http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(profileMax + answerTime)) //nolint:errcheck // tests without a connection
	file, err := o.Profile(c.r.Context(), of, kind, time.Duration(c.number("seconds", profile.DefaultSeconds))*time.Second)
	if err != nil {
		a.failed(c, err)
		return
	}
	media := "application/octet-stream"
	if format != "" && format != FormatPprof {
		p, err := profile.Decode(file)
		if err != nil {
			a.failed(c, err)
			return
		}
		switch media = "text/plain; charset=utf-8"; format {
		case FormatSVG:
			media, file = "image/svg+xml", p.SVG(of.String()+" "+string(kind))
		case FormatFolded:
			file = []byte(p.Folded())
		case FormatText:
			file = []byte(p.Text())
		}
	}
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	c.w.Header().Set("Content-Type", media)
	c.w.Write(file) //nolint:errcheck // the client has gone
}
