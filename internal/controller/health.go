package controller

import (
	"context"
	"log/slog"

	"github.com/helve-serve/helve/internal/fleet"
	"github.com/helve-serve/helve/internal/health"
	"github.com/helve-serve/helve/internal/serving"
	"github.com/helve-serve/helve/internal/states"
)

// healthChanged gives the router the replicas that get calls now, and records why they are others than before.
func (c *Controller) healthChanged(r *fleet.Replica, ch health.Change) {
	d := r.Dep
	c.Mu.Lock()
	if !r.InServiceLocked() {
		c.Mu.Unlock()
		return
	}
	if !ch.First {
		if id := c.Journal.Note(r.Object(), string(r.State), ch.Reason, ch.Message, 0); ch.Better() {
			d.Causes.ReplicaMoved(states.Ready, id)
		} else {
			d.Causes.Failed(id)
		}
		level, text := slog.LevelWarn, map[string]string{
			health.NotReady: "replica is not ready and gets no calls", health.Ejected: "replica is ejected and gets no calls", health.NotEjected: "replica fails and gets calls",
			health.Kept: "replica is not ready and gets calls as the last one",
		}[ch.Reason]
		if ch.Better() {
			level, text = slog.LevelInfo, "replica gets calls again"
		}
		c.Log.Log(context.Background(), level, text, "app", d.App.Name, "deployment", d.Name, "replica", r.ID, "reason", ch.Message)
	}
	takes, running := r.TakesLocked(), r.Running
	c.Mu.Unlock()
	running.Lend(takes)
	c.update(d)
	if takes {
		d.Serving.Router.SetModels(running, serving.BaseOf(running).Models()) // the router forgets the models of replicas that it does not have
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if takes {
		c.Readier.Tell()
	}
	c.SettleLocked(d.App.Current)
	d.WakeLocked()
}
