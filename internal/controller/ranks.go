package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/planner"
)

// rankTime bounds the time of one replica to take its rank, in which a method of the user's may run.
const rankTime = time.Minute

// rankLocked gives the replicas of the present version of a deployment their ranks, and has the replicas whose rank or whose world has changed
// learn of it. The replicas of versions before keep theirs until they stop: while a deployment changes, each version has the ranks from 0
// upwards. A replica that stops has none any more, so that the one in its place gets it although the former still finishes its calls.
func (c *Controller) rankLocked(d *fleet.Deployment) {
	var members []planner.Member
	for _, r := range d.Replicas {
		if r.RanksLocked() {
			members = append(members, planner.Member{ID: r.ID, Rank: r.Rank})
		}
	}
	for id, rank := range planner.Ranks(members, d.Wanted) {
		d.Replicas[id].Rank, d.App.Unsaved = rank, true
	}
	for _, r := range d.Replicas {
		if r.RanksLocked() && r.State == helvetype.ReplicaRunning && r.Told != r.PlaceLocked() {
			c.tellRankLocked(r)
		}
	}
}

// rankFor gives a replica that starts its rank.
func (c *Controller) rankFor(r *fleet.Replica) host.Rank {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if r.Rank == planner.Unranked {
		c.rankLocked(r.Dep)
	}
	r.Told = r.PlaceLocked()
	return r.Told
}

// tellRankLocked gives a replica its rank. A replica is told of one change at a time; the loop looks again after that. A replica whose own
// method refuses the rank is replaced, as after a user config that it refuses.
func (c *Controller) tellRankLocked(r *fleet.Replica) {
	if r.Telling {
		return
	}
	r.Telling = true
	place, running := r.PlaceLocked(), r.Running
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, rankTime)
		err := running.SetRank(ctx, place)
		cancel()
		c.Mu.Lock()
		r.Telling, r.Told = false, place
		untold := false
		if e, ok := errors.AsType[*call.Error](err); ok && !strings.HasPrefix(e.Message, "unknown control request") { // of a worker of an older node
			c.replaceLocked(r, fmt.Errorf("replica %s does not take the rank %d: %w", r.ID, place.Rank, err))
		} else {
			untold = err != nil && r.InServiceLocked()
		}
		r.Dep.WakeLocked()
		c.Mu.Unlock()
		if untold {
			c.Log.Warn("a replica was not told its rank", "app", r.Dep.App.Name, "deployment", r.Dep.Name, "replica", r.ID, "rank", place.Rank, "error", err)
		}
	})
}
