package helve

import "time"

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
