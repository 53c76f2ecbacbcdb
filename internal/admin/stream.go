package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/sse"
)

const (
	streamsMax = 200              // readers that follow, of all kinds, with a token or over the socket
	strangeMax = 50               // readers without a token, which do not keep the others out
	beatTime   = 15 * time.Second // between comments of server-sent events
)

// follower writes a stream of values: lines of JSON, or server-sent events for a client that accepts these. A client that does not read for [answerTime] is
// cut off.
type follower struct {
	w       http.ResponseWriter
	control *http.ResponseController
	events  bool // server-sent events

	mu  sync.Mutex
	buf bytes.Buffer
}

// startFollower begins a stream, and gives the context of it, which ends with the client and with the server. The answer is written if there are too many, and
// for HEAD, which has no stream: a client that keeps its connection for the next request would hold the place of a reader.
func (a *Server) startFollower(c *ask) (ctx context.Context, f *follower, stop func()) {
	kind := "application/jsonl"
	if sse.Wanted(c.r) {
		kind = "text/event-stream"
	}
	if c.r.Method == http.MethodHead {
		c.w.Header().Set("Content-Type", kind)
		return nil, nil, nil
	}
	places := a.streams
	if c.by.Name == anonymous {
		places = a.strange
	}
	select {
	case places <- struct{}{}:
	default:
		a.failed(c, &helvetype.OperationError{Code: helvetype.CodeUnavailable, Message: "too many readers follow this node", Next: "ask without follow"})
		return nil, nil, nil
	}
	ctx, cancel := context.WithCancel(c.r.Context())
	f = &follower{w: c.w, control: http.NewResponseController(c.w), events: sse.Wanted(c.r)}
	unlink := context.AfterFunc(a.ctx, cancel)
	if f.events {
		c.w.Header().Set("Cache-Control", "no-store")
		go f.beat(ctx)
	}
	c.w.Header().Set("Content-Type", kind)
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	return ctx, f, func() {
		unlink()
		cancel()
		f.mu.Lock() // the beat has ended, or writes no more
		f.control = nil
		f.mu.Unlock()
		<-places
	}
}

// item adds a value, and its id and kind for server-sent events. It is sent with the next flush, or when there is much.
func (f *follower) item(id, kind string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.events {
		if id != "" {
			f.buf.WriteString("id: " + id + "\n")
		}
		f.buf.WriteString("event: " + kind + "\ndata: ")
		f.buf.Write(append(b, "\n\n"...)) // JSON without white space is one line
	} else {
		f.buf.Write(append(b, '\n'))
	}
	if f.buf.Len() < 64<<10 {
		return nil
	}
	return f.sendLocked()
}

// flush sends all that was added.
func (f *follower) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sendLocked()
}

func (f *follower) sendLocked() error {
	if f.control == nil {
		return http.ErrHandlerTimeout
	}
	f.control.SetWriteDeadline(time.Now().Add(answerTime)) //nolint:errcheck // tests without a connection
	if _, err := f.w.Write(f.buf.Bytes()); err != nil {
		return err
	}
	f.buf.Reset()
	return f.control.Flush()
}

// beat sends a comment now and then, so that proxies between keep the connection.
func (f *follower) beat(ctx context.Context) {
	tick := time.NewTicker(beatTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.mu.Lock()
			f.buf.WriteString(":\n\n")
			err := f.sendLocked()
			f.mu.Unlock()
			if err != nil {
				return
			}
		}
	}
}
