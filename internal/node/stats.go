package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/protocol"
	"github.com/helve-serve/helve/internal/spec"
)

// Stats are what a replica last said to routing policies.
type Stats struct {
	Values map[string]any
	At     time.Time
}

// Stats are what the replica last said, nil if it has said nothing yet.
func (u *Unit) Stats() *Stats { return u.stats.Load() }

// Models are the ids of the models that the replica has or is loading. The slice is shared and must not be changed.
func (u *Unit) Models() []string {
	if ids := u.has.Load(); ids != nil {
		return *ids
	}
	return nil
}

func (u *Unit) setModels(ids []string) {
	u.has.Store(&ids)
	u.dep.Router.SetModels(u, ids)
}

// reports says whether a replica is to be asked for stats: only a policy of the user's own reads them.
func (n *Node) reports(u *Unit) bool {
	if u.options.RequestRouter.Policy != spec.Custom {
		return false
	}
	if u.instance != nil {
		return u.instance.Reports()
	}
	return u.reports
}

// watchStats asks a replica until it is no longer in service. What it said last stands when it fails.
func (n *Node) watchStats(u *Unit) {
	o := u.options
	failed := false
	late := fmt.Errorf("they took longer than request_routing_stats_timeout_s (%s)", o.RoutingStatsTimeout)
	n.watch(u, 0, o.RoutingStatsPeriod, o.RoutingStatsTimeout, late, func(ctx context.Context) bool {
		stats, err := n.routingStats(ctx, u)
		switch {
		case err == nil:
			u.stats.Store(&Stats{stats, time.Now()})
		case !failed && n.serving(u): // once until it works again
			n.log.Warn("a replica's stats for routing", "app", u.dep.app.name, "deployment", u.dep.name, "replica", u.id, "error", err)
		}
		failed = err != nil
		return true
	})
}

func (n *Node) routingStats(ctx context.Context, u *Unit) (stats map[string]any, err error) {
	var body json.RawMessage
	if u.instance != nil {
		body, err = u.instance.RoutingStats(ctx, n.codec)
	} else {
		var reply protocol.Stats
		reply, err = protocol.Ask(ctx, u.worker.peer, protocol.RoutingStats{
			Replica: u.id, TimeoutS: protocol.SecondsOf(u.options.RoutingStatsTimeout),
		})
		body = reply.Stats
	}
	if err != nil {
		return nil, err
	}
	err = n.codec.Decode(call.JSON, body, &stats)
	return stats, err
}
