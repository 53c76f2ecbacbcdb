package timed_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/helve-serve/helve/internal/timed"
)

// expired is a context whose time is over.
func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	t.Cleanup(cancel)
	<-ctx.Done()
	return ctx
}

// TestBeginningIsKept: the owner of a request may answer for a handler as long as only the beginning of the answer was written.
func TestBeginningIsKept(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	w, _ := timed.New(t.Context(), rec)
	w.WriteHeader(http.StatusCreated)
	if _, err := io.WriteString(w, "working"); err != nil || rec.Body.Len() > 0 {
		t.Fatalf("%q was sent, %v", rec.Body, err)
	}
	if !w.Discard() {
		t.Fatal("the answer has begun")
	}
	if _, err := w.Write(make([]byte, 1<<16)); !errors.Is(err, http.ErrHandlerTimeout) || rec.Body.Len() > 0 {
		t.Errorf("after its time the handler has written %q: %v", rec.Body, err)
	}
}

// TestAnswerIsSent: a handler that ends in time has its status, header and body sent.
func TestAnswerIsSent(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	w, _ := timed.New(t.Context(), rec)
	w.Header().Set("X-A", "1")
	w.WriteHeader(http.StatusCreated)
	w.Header().Set("X-A", "2") // too late
	io.WriteString(w, "done")  //nolint:errcheck // it is looked at below
	w.Finish(nil)
	if rec.Code != http.StatusCreated || rec.Body.String() != "done" || rec.Result().Header.Get("X-A") != "1" {
		t.Errorf("%d %q %v", rec.Code, rec.Body, rec.Result().Header)
	}
	if w.Discard() {
		t.Error("an answer that was sent is dropped")
	}
}

// TestLargeAnswers: an answer that is larger than what is kept is sent at once, and is cut off at the end of its time.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	w, _ := timed.New(t.Context(), rec)
	if n, err := io.WriteString(w, strings.Repeat("x", 1<<16)); n != 1<<16 || err != nil || rec.Body.Len() != n {
		t.Fatalf("%d bytes written, %d sent: %v", n, rec.Body.Len(), err)
	}
	if !w.Cut() {
		t.Fatal("the answer is not cut off")
	}
	if _, err := w.Write([]byte("late")); err == nil || rec.Body.Len() != 1<<16 {
		t.Errorf("a write after the end: %v", err)
	}
}

// TestLateBeginning: a handler that begins its answer after the time sends nothing.
func TestLateBeginning(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	w, _ := timed.New(expired(t), rec)
	if _, err := w.Write([]byte("late")); !errors.Is(err, http.ErrHandlerTimeout) || rec.Body.Len() > 0 {
		t.Errorf("%q, %v", rec.Body, err)
	}
}
