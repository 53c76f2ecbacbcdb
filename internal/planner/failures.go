package planner

import "time"

// HealthyTime is how long a replica must have run for its end to count as the first failure again.
const HealthyTime = 10 * time.Minute

// Failures counts the failures of one deployment's replicas: all of them, for giving up, and in rounds, for the delay of the next
// start. The zero Failures has none. Each start has a number, from 1 upwards.
//
// Failures of replicas that were started together, or before one of them failed, are one round. For example, starts 1, 2 and 3 fail
// because a database was down for a moment: that is one round, and the next starts wait once. Start 4, made after the first of these
// failures, is in the next round.
//
// Starts that fail and replicas that end after they were ready have rounds of their own, and the greater number counts: a replica that
// is ready ends the rounds of failed starts, and must not end those of a crash loop, in which each replica is ready before it dies.
type Failures struct {
	starts   int // so far
	number   int
	starting rounds // starts that failed
	running  rounds // replicas that ended soon after they had started
	last     time.Time
}

// rounds are failures where those of replicas that were started before the first of them are one.
type rounds struct {
	number int
	upTo   int // the last start that is in one of them
}

// add notes the failure of the start order, after that many starts.
func (r *rounds) add(order, starts int) {
	if order > r.upTo {
		r.number, r.upTo = r.number+1, starts
	}
}

// Start numbers the start of another replica.
func (f *Failures) Start() (order int) {
	f.starts++
	return f.starts
}

// StartFailed notes that the start of a number failed. The number 0 is of a replica that another node started: its failure counts, and
// is no round.
func (f *Failures) StartFailed(order int, now time.Time) {
	f.starting.add(order, f.starts)
	f.number, f.last = f.number+1, now
}

// ReplicaFailed notes that a replica ended after it had been ready, or was of no use any more.
func (f *Failures) ReplicaFailed(order int, now time.Time) {
	f.running.add(order, f.starts)
	f.number, f.last = f.number+1, now
}

// Ready notes that a replica is ready: the next start that fails is the first.
func (f *Failures) Ready() { f.starting.number = 0 }

// Forgive forgets the failures before the end of a replica that ran for the time, if that was long ([HealthyTime]).
func (f *Failures) Forgive(ran time.Duration) {
	if ran > HealthyTime {
		f.number, f.running.number = 0, 0
	}
}

// Retry lets the next start begin without delay, because its replicas get another user config. The failures count for giving up.
func (f *Failures) Retry() { f.starting.number, f.running.number = 0, 0 }

// Forget forgets all failures: the deployment changes to another revision, of which they say nothing.
func (f *Failures) Forget() {
	f.Retry()
	f.number = 0
}

// Number is the number of failures.
func (f *Failures) Number() int { return f.number }

// flapping is the number of rounds after which the ends of replicas are no accident.
const flapping = 3

// Flapping is the number of rounds in which replicas ended soon after they were ready, if there are so many that the next ones will too; else 0.
func (f *Failures) Flapping() int {
	if f.running.number < flapping {
		return 0
	}
	return f.running.number
}

// Delayed says until when the next start waits; zero if it need not.
func (f *Failures) Delayed(now time.Time) time.Time { return f.History(true).delayed(now) }

// History has the failures as [Plan] wants them. ran says that a replica of the target's revision was ready once.
func (f *Failures) History(ran bool) History {
	return History{Failures: f.number, Rounds: max(f.starting.number, f.running.number), LastFailure: f.last, Ran: ran}
}
