package wire

import (
	"errors"
	"testing"

	"github.com/helve-serve/helve/internal/call"
)

// TestUnreadAnswers: large answers and replies to a peer that does not read end the connection, as small ones do.
func TestUnreadAnswers(t *testing.T) {
	t.Parallel()
	data := pattern(maxChunk + 1)
	for name, send := range map[string]func(p *Peer){
		"END": func(p *Peer) {
			(&Incoming{peer: p, id: 1}).Complete(nil, call.Result{Payload: call.Payload{Codec: call.Raw, Data: data}})
		},
		"REPLY": func(p *Peer) { p.reply(1, data) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := halfLinked(t, &server{}, bulkTerms)
			p.conn.small.backlog = 4 << 20
			serve(t, p)
			n := 0
			for ; p.conn.Err() == nil && n < 1000; n++ {
				send(p)
			}
			if !errors.Is(p.conn.Err(), errBacklog) {
				t.Errorf("still open: %v", p.conn.Err())
			}
			if sent := n * len(data); sent < 16<<20 || sent > 20<<20 { // and the socket buffers are full
				t.Errorf("%d answers of %d bytes were taken", n, len(data))
			}
		})
	}
}
