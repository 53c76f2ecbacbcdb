package main

import (
	_ "embed"
	"encoding/json"
	"net/http"

	"github.com/coder/websocket"
	"github.com/helve-serve/helve"
)

//go:embed page.html
var page []byte

// Site is the page, the WebSocket behind it, and the counts of the model.
type Site struct {
	mux    http.ServeMux
	tokens helve.Stream[string, string]
	stats  helve.Method[helve.None, Stats]
}

func newSite(model helve.Handle[*Model]) *Site {
	s := &Site{tokens: helve.StreamOf(model, (*Model).Tokens), stats: helve.MethodOf(model, (*Model).Stats)}
	s.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page) //nolint:errcheck // the client may be gone
	})
	s.mux.HandleFunc("GET /socket", s.socket)
	s.mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) {
		stats, err := s.stats.Call(r.Context(), helve.None{})
		if err != nil {
			http.Error(w, "the model does not answer", helve.HTTPStatus(err))
			return
		}
		json.NewEncoder(w).Encode(stats) //nolint:errcheck // the client may be gone
	})
	return s
}

// ServeHTTP answers a request.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// socket answers a message with the tokens of the model, and closes the connection after them.
func (s *Site) socket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow() //nolint:errcheck // it may be closed
	_, prompt, err := conn.Read(r.Context())
	if err != nil {
		return
	}
	ctx := conn.CloseRead(r.Context()) // ends when the client leaves
	for token, err := range s.tokens.Call(ctx, string(prompt)) {
		if err != nil {
			conn.Close(websocket.StatusInternalError, "the model has failed") //nolint:errcheck // the client may be gone
			return
		}
		if conn.Write(ctx, websocket.MessageText, []byte(token)) != nil {
			return // which ends the stream
		}
	}
	conn.Close(websocket.StatusNormalClosure, "") //nolint:errcheck // the client may be gone
}
