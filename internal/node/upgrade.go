package node

import (
	"context"
	"time"

	"github.com/helve-serve/helve/internal/keeper"
)

// longestLeave bounds the time in which a node that has handed over finishes its calls.
const longestLeave = time.Hour

// handOverForKeeper has the node hand over to the next one when the keeper asks for it. d.Left is called when the last call has ended.
func (d *Durable) handOverForKeeper() {
	n := d.node
	d.Keeper.Handle(keeper.DoHandOver, func(r *keeper.Request) {
		r.Answer(nil, n.HandOver(context.Background()))
	})
	d.Keeper.Handle(keeper.DoSucceed, func(r *keeper.Request) {
		var next keeper.Successor
		if !r.Decode(&next) {
			return
		}
		err := n.Succeed(d.Keeper.Cut, next.Private)
		r.Answer(nil, err)
		if err != nil { // the keeper names another, if the next node has ended
			n.log.Error("the next node is not found", "error", err)
			return
		}
		ctx, cancel := context.WithTimeout(d.Keeper.Cut, longestLeave)
		defer cancel()
		if err := n.Leave(ctx); err != nil {
			n.log.Warn("calls were cut off when the node left", "error", err)
		}
		if d.Left != nil {
			d.Left()
		}
	})
}
