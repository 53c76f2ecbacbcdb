package planner

import (
	"slices"

	"github.com/helve-serve/helve/helvetype"
)

// Former is the history that a replica inherits from the replicas before it in its place.
type Former struct {
	Restarts int
	Exit     *helvetype.Exit // of the last; nil for the first replica in its place
	Event    uint64          // that recorded it
}

// Places are the places of one version's replicas that are gone, for the next replicas to start. For example, a replica that has died twice in its
// place leaves it with two restarts, and the next one begins with these.
type Places struct {
	LastExit *helvetype.Exit // nil while none has ended

	open []Former
}

// Leave leaves the place of a replica with the history before, which ended with exit by an event. No more than wanted places are open: the oldest go.
func (p *Places) Leave(before Former, exit *helvetype.Exit, event uint64, wanted int) {
	p.LastExit = exit
	p.open = append(p.open, Former{before.Restarts + 1, exit, event})
	if extra := len(p.open) - wanted; extra > 0 {
		p.open = p.open[extra:]
	}
}

// Take gives the history of the oldest open place to a replica that starts.
func (p *Places) Take() (f Former) {
	if len(p.open) > 0 {
		f, p.open = p.open[0], p.open[1:]
	}
	return f
}

// GiveBack opens the place again of a replica whose start ended in nothing.
func (p *Places) GiveBack(f Former) {
	if f.Exit != nil { // else the replica had no other before it
		p.open = append(p.open, f)
	}
}

// Clone is a copy that changes apart.
func (p *Places) Clone() Places { return Places{LastExit: p.LastExit, open: slices.Clone(p.open)} }
