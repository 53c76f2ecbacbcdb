package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/bundle"
)

// dumpWait bounds each part of a bundle.
const dumpWait = 2 * time.Second

// Dump writes a support bundle of the node, without secrets.
func (a *Server) Dump(ctx context.Context, w io.Writer) error {
	h := a.handler()
	by := helvetype.Author{Name: "dump", Role: helvetype.RoleRead, Via: "node"}
	return bundle.Write(ctx, w, bundle.Settings{
		Scrub: a.set.Scrub, Version: a.set.Version, Wait: dumpWait,
		Get: func(ctx context.Context, path string) ([]byte, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
			if err != nil {
				return nil, err
			}
			to := &inMemory{header: http.Header{}, status: http.StatusOK}
			h.ServeHTTP(to, withAuthor(r, by))
			if to.status != http.StatusOK {
				return nil, fmt.Errorf("%d: %s", to.status, strings.TrimSpace(to.body.String()))
			}
			return to.body.Bytes(), nil
		},
	})
}

// inMemory is the writer of an answer that stays in the process.
type inMemory struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (m *inMemory) Header() http.Header         { return m.header }
func (m *inMemory) WriteHeader(status int)      { m.status = status }
func (m *inMemory) Write(b []byte) (int, error) { return m.body.Write(b) }

func (a *Server) dump(c *ask) {
	http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(profileMax + answerTime)) //nolint:errcheck // tests without a connection
	c.w.Header().Set("Content-Type", "application/gzip")
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := a.Dump(c.r.Context(), c.w); err != nil {
		a.set.Logger.Debug("a bundle was not written", "error", err) // the reader has gone
	}
}
