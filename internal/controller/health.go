package controller

import (
	"context"
	"log/slog"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/states"
)

// takesLocked says that the replica gets calls: it runs, its readiness check passes, and it is not ejected.
func (r *replica) takesLocked() bool {
	return r.state == helvetype.ReplicaRunning && r.health.Takes()
}

// outLocked is the reason why a replica that runs gets no calls, or gets them as the last one only; "" for others.
func (r *replica) outLocked() string {
	if r.state == helvetype.ReplicaRunning {
		return r.health.View().Why
	}
	return ""
}

// healthChanged gives the router the replicas that get calls now, and records why they are others than before.
func (c *Controller) healthChanged(r *replica, ch health.Change) {
	d := r.dep
	c.mu.Lock()
	if !r.inServiceLocked() {
		c.mu.Unlock()
		return
	}
	if !ch.First {
		if id := c.journal.Note(r.object(), string(r.state), ch.Reason, ch.Message, 0); ch.Better() {
			d.causes.ReplicaMoved(states.Ready, id)
		} else {
			d.causes.Failed(id)
		}
		level, text := slog.LevelWarn, map[string]string{
			health.NotReady: "replica is not ready and gets no calls", health.Ejected: "replica is ejected and gets no calls", health.NotEjected: "replica fails and gets calls",
			health.Kept: "replica is not ready and gets calls as the last one",
		}[ch.Reason]
		if ch.Better() {
			level, text = slog.LevelInfo, "replica gets calls again"
		}
		c.log.Log(context.Background(), level, text, "app", d.app.name, "deployment", d.name, "replica", r.id, "reason", ch.Message)
	}
	takes, running := r.takesLocked(), r.running
	c.mu.Unlock()
	running.Lend(takes)
	c.update(d)
	if takes {
		d.serving.Router.SetModels(running, serving.BaseOf(running).Models()) // it forgets those of replicas that it does not have
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if takes {
		c.readier.Tell()
	}
	c.settleLocked(d.app.current)
	d.wakeLocked()
}
