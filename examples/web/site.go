package main

import (
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"

	"github.com/helve-serve/helve"
)

//go:embed static
var static embed.FS

// Flower and Verdict are the input and the result of the model. They have the names of the iris example, which is not imported.
type (
	Flower struct {
		SepalLength float64 `json:"sepal_length"`
		SepalWidth  float64 `json:"sepal_width"`
		PetalLength float64 `json:"petal_length"`
		PetalWidth  float64 `json:"petal_width"`
	}
	Verdict struct {
		Species     string  `json:"species"`
		Probability float64 `json:"probability"`
		Agreed      bool    `json:"agreed"`
	}
)

// Site is an ordinary http.Handler. It sees paths without the prefix of the application.
type Site struct {
	http.Handler
	classify helve.Method[Flower, Verdict]
}

func newSite(classify helve.Method[Flower, Verdict]) *Site {
	mux := http.NewServeMux()
	s := &Site{mux, classify}
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the directory is embedded
	}
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("POST /api/classify", s.answer)
	mux.HandleFunc("GET /api/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return s
}

// answer classifies a flower. The call has the deadline of the request, and ends when the client leaves.
func (s *Site) answer(w http.ResponseWriter, r *http.Request) {
	var f Flower
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	verdict, err := s.classify.Call(r.Context(), f)
	if err != nil {
		text := "the model does not answer; request " + helve.RequestIDFrom(r.Context())
		if e, ok := errors.AsType[*helve.Error](err); ok && e.PublicMessage() != "" { // a mistake in the flower
			text = e.PublicMessage()
		}
		problem(w, helve.HTTPStatus(err), text)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(verdict) //nolint:errcheck // the client may be gone
}

func problem(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": text}) //nolint:errcheck // the client may be gone
}
