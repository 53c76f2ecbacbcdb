package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/planner"
)

// rankTime bounds the time of one replica to take its rank, in which a method of the user's may run.
const rankTime = time.Minute

// rankLocked gives the replicas of the present version of a deployment their ranks, and has the replicas whose rank or whose world has changed
// learn of it. The replicas of versions before keep theirs until they stop: while a deployment changes, each version has the ranks from 0
// upwards. A replica that stops has none any more, so that the one in its place gets it although the former still finishes its calls.
func (d *deployment) rankLocked() {
	var members []planner.Member
	for _, r := range d.replicas {
		if r.ranksLocked() {
			members = append(members, planner.Member{ID: r.id, Rank: r.rank})
		}
	}
	for id, rank := range planner.Ranks(members, d.wanted) {
		d.replicas[id].rank, d.app.unsaved = rank, true
	}
	for _, r := range d.replicas {
		if r.ranksLocked() && r.state == helvetype.ReplicaRunning && r.told != r.placeLocked() {
			d.app.c.tellRankLocked(r)
		}
	}
}

// freeRankLocked is the lowest rank that no replica of a form of the deployment has.
func (d *deployment) freeRankLocked(e *deploymentRevision) (rank int) {
	taken := map[int]bool{}
	for _, r := range d.replicas {
		if r.of.version == e.version && r.state != helvetype.ReplicaStopping {
			taken[r.rank] = true
		}
	}
	for taken[rank] {
		rank++
	}
	return rank
}

// ranksLocked says that a replica counts among the ranks of its deployment.
func (r *replica) ranksLocked() bool {
	return r.state != helvetype.ReplicaStopping && r.state != "" && r.of.version == r.dep.now.version
}

// placeLocked is the rank that a replica should have, and the number of ranks.
func (r *replica) placeLocked() host.Rank {
	return host.Rank{Rank: max(r.rank, 0), World: r.dep.wanted}
}

// rankFor gives a replica that starts its rank.
func (c *Controller) rankFor(r *replica) host.Rank {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.rank == planner.Unranked {
		r.dep.rankLocked()
	}
	r.told = r.placeLocked()
	return r.told
}

// tellRankLocked gives a replica its rank. A replica is told of one change at a time; the loop looks again after that. A replica whose own
// method refuses the rank is replaced, as after a user config that it refuses.
func (c *Controller) tellRankLocked(r *replica) {
	if r.telling {
		return
	}
	r.telling = true
	place, running := r.placeLocked(), r.running
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, rankTime)
		err := running.SetRank(ctx, place)
		cancel()
		c.mu.Lock()
		r.telling, r.told = false, place
		untold := false
		if e, ok := errors.AsType[*call.Error](err); ok && !strings.HasPrefix(e.Message, "unknown control request") { // of a worker of an older node
			c.replaceLocked(r, fmt.Errorf("replica %s does not take the rank %d: %w", r.id, place.Rank, err))
		} else {
			untold = err != nil && r.inServiceLocked()
		}
		r.dep.wakeLocked()
		c.mu.Unlock()
		if untold {
			c.log.Warn("a replica was not told its rank", "app", r.dep.app.name, "deployment", r.dep.name, "replica", r.id, "rank", place.Rank, "error", err)
		}
	})
}
