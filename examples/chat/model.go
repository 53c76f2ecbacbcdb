package main

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve"
)

// Model stands for a language model: it says a token from time to time.
type Model struct {
	pause                        time.Duration
	running, finished, cancelled atomic.Int64
}

// Stats counts the streams of a model.
type Stats struct {
	Running   int64 `json:"running"`
	Finished  int64 `json:"finished"`
	Cancelled int64 `json:"cancelled"`
}

// Tokens answers a prompt. It stops when its reader has left, because ctx ends then.
func (m *Model) Tokens(ctx context.Context, prompt string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		m.running.Add(1)
		end := &m.cancelled
		defer func() {
			m.running.Add(-1)
			end.Add(1)
		}()
		for token := range strings.SplitAfterSeq(answer(prompt), " ") {
			select {
			case <-time.After(m.pause):
			case <-ctx.Done():
				return
			}
			if !yield(token, nil) {
				return
			}
		}
		end = &m.finished
	}
}

// answer is the whole answer to a prompt.
func answer(prompt string) string {
	return "You said: " + strings.TrimSpace(prompt) + ".\n" + strings.Repeat("I have a lot to say about that, and take my time. ", 5) + "That is all."
}

// Stats are the counts of the model.
func (m *Model) Stats(context.Context, helve.None) (Stats, error) {
	return Stats{m.running.Load(), m.finished.Load(), m.cancelled.Load()}, nil
}
