package helvetype

import "time"

// RolloutOptions say how an update replaces the replicas of a deployment. Numbers of replicas are texts, "2" or "25%".
type RolloutOptions struct {
	// MaxSurge is the number of replicas that an update may start beside the wanted number; a percentage is rounded up. Default: a fifth of them, at least one.
	MaxSurge string
	// MaxUnavailable is the number of replicas that may be missing meanwhile; a percentage is rounded down. Default "0".
	MaxUnavailable string
	// Steps are numbers of new replicas at which an update stops for StepPause, for example {"1", "25%"}. Default: none.
	Steps []string
	// StepPause is the time that an update waits at each step. Default: until an operator resumes it.
	StepPause *time.Duration
	// MinReady is the time that a new replica must have been ready before it counts.
	MinReady time.Duration
	// ProgressDeadline is the time without a further ready replica after which an update has failed. Default 10 minutes.
	ProgressDeadline time.Duration
	// AutomaticRollback says whether the revision before comes back by itself when an update fails. Default true.
	AutomaticRollback *bool
	// ErrorRate says when failed calls of the new revision are a failed update.
	ErrorRate ErrorRateOptions
}

// ErrorRateOptions say when an update fails because calls of the new revision fail. The share of its failed calls must be above Factor times
// that of the old revision in the same window, and at least Points percent points above it. For example, of 200 calls of the new revision 20 fail, and of
// 1,000 of the old one 10: 10 percent is above twice 1 percent, and 9 points more.
type ErrorRateOptions struct {
	// Enabled is whether calls are counted. Default true.
	Enabled *bool
	// MinCalls is the number of calls of the new revision in the window before their failures count. Default 100.
	MinCalls int
	// Window is the time of which calls are counted. Default 1 minute.
	Window time.Duration
	// Factor is at least 1. Default 2.
	Factor float64
	// Points is in percent points. Default 5.
	Points *float64
}

// EjectionOptions say when a replica gets no calls for a while because calls to it fail for reasons of the system, such as a connection that ends.
// Errors of the deployment's own code do not count.
type EjectionOptions struct {
	// Enabled is whether replicas are ejected. Default true.
	Enabled *bool
	// ConsecutiveFailures is the number of such failures in a row. Default 5.
	ConsecutiveFailures int
	// EjectFor is the time until the replica is tried again; it doubles each time, up to 16 times this time. Default 5 s.
	EjectFor time.Duration
	// MaxPercent is the percentage of the deployment's replicas that may be ejected; the last one never is. Default 50.
	MaxPercent *int
}
