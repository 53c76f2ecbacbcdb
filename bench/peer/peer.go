// Package peer has the servers that rows of the benchmark compare, and their clients: grpc-go, bare connections of internal/wire, and a
// bare socket. Both sides of a row go through the same checks. For example, the row "bare wire, unix, p50 at 1 / grpc-go" takes the time of
// [Client].Echo at the two clients in turn.
package peer

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Client is a connection to a server.
type Client interface {
	// Echo fails if the answer has not the size of data.
	Echo(ctx context.Context, data []byte) error
	// Items takes n items of one stream, each an [Item].
	Items(ctx context.Context, n int) error
	// CancelCall cancels a call, and gives the nanoseconds until the context of its handler ended.
	CancelCall(ctx context.Context) (float64, error)
	Close()
}

// Item is one item of a stream: 64 bytes.
const Item = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// Dial opens a connection to the server of a role, "grpc" or "wire".
func Dial(ctx context.Context, role string, e End) (Client, error) {
	if role == "grpc" {
		return DialGRPC(ctx, e)
	}
	return DialWire(ctx, e)
}

// CheckSize fails if an answer has not the size of the message.
func CheckSize(sent, answer []byte) error {
	if len(answer) != len(sent) {
		return fmt.Errorf("the answer to %d bytes has %d", len(sent), len(answer))
	}
	return nil
}

// CheckCount fails if not all items have come.
func CheckCount(asked, taken int) error {
	if asked != taken {
		return fmt.Errorf("%d items of %d", taken, asked)
	}
	return nil
}

func numbered(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

// number is the argument of numbered, and 0 for other bytes.
func number(b []byte) int {
	if len(b) != 8 {
		return 0
	}
	return int(binary.LittleEndian.Uint64(b))
}
