// Package otlp sends the spans of sampled requests to a receiver of OpenTelemetry: OTLP over HTTP, as JSON.
//
// A node has one [Exporter]. Records of calls come to it one by one and wait in memory, at most 8,192 of them; a second after the first, or when 1,024 wait, they go in one
// request. A receiver that is busy or away gets the request again, after 1 s, 2 s, 4 s and so on or at the time that it names, for a minute; then the spans of the request are
// dropped, and counted. For example, a collector that is restarted and away for 20 s costs no span of a node with 300 sampled spans in a second; from a node with 1,000 it gets
// 9,216 of 20,000: the 1,024 of a request that was repeated, and 8,192 that waited.
//
// The encoder is a small one of our own, so that the binary of a user has no gRPC and no Protocol Buffers in it for this.
package otlp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helve-serve/helve/internal/trace"
)

const (
	maxWaiting  = 8192             // records
	maxBatch    = 1024             // spans of one request, without another time in the [Way]
	sendEvery   = time.Second      // a batch that is not full
	sendTime    = 10 * time.Second // of one request
	firstPause  = time.Second      // before the first repetition
	longPause   = 30 * time.Second // the longest one
	repeatTime  = time.Minute      // after the first failure a batch is dropped
	closeTime   = 2 * time.Second  // at the end, for the spans that still wait
	maxAnswer   = 64 << 10         // bytes of an answer that are read
	contentType = "application/json"
)

// Target is a receiver.
type Target struct {
	URL      string            // with its path, such as http://127.0.0.1:4318/v1/traces
	Headers  map[string]string // of each request
	Resource []trace.Attribute // attributes of the process that the spans are of
	Way      Way
}

// Exporter sends records. Its methods may be called from any goroutine.
type Exporter struct {
	log     *slog.Logger
	version string
	client  *http.Client

	sent, dropped atomic.Uint64

	mu      sync.Mutex
	target  *Target // nil: no span is sent
	waiting []trace.Record
	some    chan struct{} // there are records
	full    chan struct{} // there is a whole batch
	changed chan struct{} // there is another target

	failing bool   // the last request has failed
	before  uint64 // dropped when it began to fail
}

// New makes an exporter without a target. The version is that of the program, for receivers. The transport nil is one of its own, with the certificates of the way.
func New(log *slog.Logger, version string, w Way, transport http.RoundTripper) *Exporter {
	if transport == nil {
		transport = w.transport()
	}
	return &Exporter{
		log: log, version: version, client: &http.Client{Transport: transport},
		some: make(chan struct{}, 1), full: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
}

// Use has the records go to a target from now on, also the records that wait; nil drops them.
func (e *Exporter) Use(t *Target) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.target = t
	if t == nil {
		e.waiting = nil
	}
	signal(e.changed)
}

// URL is the address of the target; "" without one.
func (e *Exporter) URL() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.target == nil {
		return ""
	}
	return e.target.URL
}

// Counts are the numbers of spans that receivers have taken, and of spans that were dropped: too many waited, or no receiver took them.
func (e *Exporter) Counts() (sent, dropped uint64) { return e.sent.Load(), e.dropped.Load() }

// Add takes a record, which is copied. It does not block.
func (e *Exporter) Add(r *trace.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.target == nil {
		return
	}
	if len(e.waiting) >= maxWaiting {
		e.dropped.Add(1)
		return
	}
	e.waiting = append(e.waiting, *r)
	switch len(e.waiting) {
	case 1:
		signal(e.some)
	case maxBatch:
		signal(e.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends, and then for two seconds at most the spans that still wait.
func (e *Exporter) Run(ctx context.Context) {
	defer e.client.CloseIdleConnections()
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx)) // of requests, and no other one is made at the end of ctx
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(closeTime, cancel) })()
	timer := time.NewTimer(sendEvery)
	defer timer.Stop()
	for ended := false; !ended; {
		select {
		case <-e.some:
			timer.Reset(sendEvery)
			select {
			case <-timer.C:
			case <-e.full:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		ended = ctx.Err() != nil
		for more := true; more; {
			more = e.sendBatch(ctx, sending)
		}
	}
}

// sendBatch sends the oldest records. more says that others wait that go at once.
func (e *Exporter) sendBatch(ctx, sending context.Context) (more bool) {
	e.mu.Lock()
	n := min(len(e.waiting), maxBatch)
	batch := e.waiting[:n:n]
	e.waiting = e.waiting[n:]
	left := len(e.waiting)
	if left == 0 {
		e.waiting = nil // the array is the batch's
	}
	e.mu.Unlock()
	if n == 0 {
		return false
	}
	sent, err := e.send(ctx, sending, batch)
	e.sent.Add(uint64(sent))
	e.dropped.Add(uint64(n - sent))
	switch ended := ctx.Err() != nil; {
	case ended:
		return left > 0 && err == nil
	case err != nil:
		e.fails("the receiver of spans does not take them, and they are dropped", err)
	}
	if left > 0 && left < maxBatch { // the others wait for more
		signal(e.some)
		return false
	}
	return left > 0
}

// fails logs the first failure; those until the next success are the same for an operator. It is called by [Exporter.Run] alone.
func (e *Exporter) fails(text string, err error) {
	if !e.failing && err != errNoTarget { //nolint:errorlint // identity
		e.failing, e.before = true, e.dropped.Load()
		e.log.Warn(text, "reason", err)
	}
}

// works logs the first success after failures.
func (e *Exporter) works(url string) {
	if e.failing {
		e.failing = false
		e.log.Info("the receiver takes spans again", "url", url, "dropped", e.dropped.Load()-e.before)
	}
}

// refusal is the answer of a receiver that has not taken a request.
type refusal struct {
	text  string
	again bool          // the receiver may take the request later
	after time.Duration // 0: the receiver does not say when
}

func (r *refusal) Error() string { return r.text }

// errNoTarget says that nothing is sent any more.
var errNoTarget = errors.New("no receiver is set any more")

// send sends a batch until a receiver has taken it or refuses it, or its time is over.
func (e *Exporter) send(ctx, sending context.Context, batch []trace.Record) (sent int, err error) {
	var began time.Time // of the repetitions
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		e.mu.Lock()
		target := e.target
		select {
		case <-e.changed: // to this one
		default:
		}
		e.mu.Unlock()
		if target == nil {
			return 0, errNoTarget
		}
		rejected, err := e.post(sending, target, batch)
		if err == nil {
			e.works(target.URL)
			return len(batch) - min(rejected, len(batch)), nil
		}
		after := time.Duration(0)
		if r, ok := errors.AsType[*refusal](err); ok {
			if after = r.after; !r.again {
				return 0, err
			}
		}
		if began.IsZero() {
			began = time.Now()
			e.fails("the receiver of spans does not take them, and gets them again for a minute", err)
		}
		if after == 0 {
			after = pause/2 + rand.N(pause/2+1)
		}
		if ctx.Err() != nil || time.Since(began)+after > repeatTime {
			return 0, err
		}
		wait := time.NewTimer(after)
		select {
		case <-wait.C:
		case <-e.changed:
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

// post makes one request. It gives the number of spans that the receiver has taken out.
func (e *Exporter) post(ctx context.Context, t *Target, batch []trace.Record) (rejected int, err error) {
	body, err := encode(e.version, t.Resource, batch)
	if err != nil {
		return 0, &refusal{text: err.Error()}
	}
	if body, err = t.Way.packed(body); err != nil {
		return 0, &refusal{text: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, t.Way.timeout())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return 0, &refusal{text: err.Error()}
	}
	r.Header.Set("User-Agent", "helve/"+e.version)
	for name, v := range t.Headers {
		r.Header.Set(name, v)
	}
	r.Header.Set("Content-Type", contentType)
	if t.Way.Compressed {
		r.Header.Set("Content-Encoding", "gzip")
	}
	a, err := e.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, maxAnswer))
	if err != nil {
		return 0, err
	}
	if a.StatusCode/100 != 2 {
		return 0, refused(a, text)
	}
	return e.partly(text), nil
}

// refused is the error of an answer that is no success.
func refused(a *http.Response, text []byte) error {
	r := &refusal{text: "the receiver answers " + a.Status}
	const shown = 200
	if line := strings.TrimSpace(string(text[:min(len(text), shown)])); line != "" {
		r.text += ": " + line
	}
	switch a.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		r.again = true
		r.after = retryAfter(a.Header.Get("Retry-After"), time.Now())
	case http.StatusUnsupportedMediaType:
		r.text += " (it must take JSON, as OTLP over HTTP has it)"
	}
	return r
}

// retryAfter is the time until a request may be repeated, by the header of that name: seconds, or a date. It is 0 without one.
func retryAfter(header string, now time.Time) time.Duration {
	if s, err := strconv.ParseInt(header, 10, 32); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// partly is the number of spans that a receiver rejects in a successful answer.
func (e *Exporter) partly(text []byte) int {
	var a struct {
		Partial struct {
			Rejected json.RawMessage `json:"rejectedSpans"` // a number, or a text as 64 bits have it
			Message  string          `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	if len(text) == 0 || json.Unmarshal(text, &a) != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.Trim(string(a.Partial.Rejected), `"`))
	if err != nil {
		n = 0
	}
	if n > 0 || a.Partial.Message != "" {
		e.log.Warn("the receiver of spans has a complaint", "rejected_spans", n, "message", a.Partial.Message)
	}
	return max(n, 0)
}
