// Package userconfig has the rules of user configs: which config the replicas of a deployment should have, and what it means that some
// of the replicas that were given one have refused it. [Change] is the protocol by which the replicas get another config. The package has no
// lock of its own: the lock of the controller guards its values, and [Deployment] is its view of what the controller has.
//
// A user config becomes a deployment's target when its replicas have taken it, and not before: the next replica must not start with a
// config that was refused. For example, of three replicas two take the config "b" and one refuses it: the two are given "a" again, which
// all three had, and a replica that starts later gets "a".
//
// A deployment without a replica that runs has none to ask. The config is then a trial: the next replicas start with it. The first that
// is ready makes it the target, and the first that refuses it ends it. A replica that goes on under a revision with a trial, because a later
// revision has failed, is given the trial too.
package userconfig

import "encoding/json"

// Config is a user config, and its number, which no other user config of the deployment has.
type Config struct {
	Value  json.RawMessage // nil for none
	Number int
}

// Unknown is the number of a user config that the controller does not know. No config has this number.
const Unknown = -1

// Target is the user config that the replicas of a deployment should have, in one revision.
type Target struct {
	Current Config  // in use
	trial   *Config // that may replace it; nil for none
}

// Next is the config for a replica that starts: the trial if there is one.
func (t *Target) Next() Config {
	if t.trial != nil {
		return *t.trial
	}
	return t.Current
}

// Trial is the config that no replica has taken yet. It returns false if there is none.
func (t *Target) Trial() (Config, bool) {
	if t.trial == nil {
		return Config{}, false
	}
	return *t.trial, true
}

// Try makes a config the trial.
func (t *Target) Try(c Config) { t.trial = &c }

// Accept makes a config that replicas have taken the target, and ends the trial.
func (t *Target) Accept(c Config) { t.Current, t.trial = c, nil }

// Took notes that a replica has taken the config of a number. If that is the trial, it becomes the target, and Took returns true.
func (t *Target) Took(number int) bool {
	if t.trial == nil || t.trial.Number != number {
		return false
	}
	t.Accept(*t.trial)
	return true
}

// Refusal says what the refusal of a config by a replica is about.
type Refusal int

// The refusals. That of the config in use is a failure of the start. That of the trial ends it. A config that is neither is a trial that
// ended just before: for example, two replicas start with a trial at once, and both refuse it.
const (
	OfCurrent Refusal = iota
	OfTrial
	OfFormer
)

// Refuse notes that a replica has refused the config of a number.
func (t *Target) Refuse(number int) Refusal {
	switch {
	case t.trial != nil && t.trial.Number == number:
		t.trial = nil
		return OfTrial
	case number == t.Current.Number:
		return OfCurrent
	}
	return OfFormer
}
