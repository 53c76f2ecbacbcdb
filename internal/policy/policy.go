// Package policy asks autoscaling policies that users write: how many replicas a deployment needs. A policy is a function or a class in Python, or a function of another executable
// in Go, which a process of its own runs ([Process]; [Main] is the other end of the latter), or a function of this program ([Func]). [Held] asks one policy at a time, off the path of decisions, and holds its last answer.
//
// Bounds, delays and gains are not the policy's business: package autoscale applies them to the answer. For example, a policy answers 12 for a deployment with
// max_replicas 4: the deployment has 4 replicas.
package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/helve-serve/helve/internal/call"
)

// Time is a moment in seconds since 1970; 0 for none.
type Time float64

// At is the form of a moment; 0 for the zero time.
func At(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(float64(t.UnixMicro()) / 1e6)
}

// Time is the moment, the zero time for 0.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(float64(t) * 1e6))
}

// MarshalJSON writes null for no time.
func (t Time) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(float64(t))
}

// Sample is a number that a replica has reported: its time in seconds since 1970, and its value.
type Sample [2]float64

// View is one deployment as a policy sees it.
type View struct {
	App        string `json:"app"`
	Deployment string `json:"deployment"`
	// Current is the number of replicas that run, and Running has their ids; Target is the number that the deployment should have.
	Current int      `json:"current"`
	Target  int      `json:"target"`
	Running []string `json:"running"`
	// Total is the number of calls, those that run and those that wait, over the look-back period; Queued is the number of those that wait.
	Total  float64 `json:"total"`
	Queued float64 `json:"queued"`
	// Aggregated has the numbers that replicas report ([Metrics]), by name and replica, over the look-back period, and Raw their samples.
	Aggregated map[string]map[string]float64  `json:"aggregated,omitempty"`
	Raw        map[string]map[string][]Sample `json:"raw,omitempty"`
	// Least and Most are the bounds under the target capacity.
	Least int `json:"least"`
	Most  int `json:"most"`
	// State is what the policy has returned at its last call; nil for none.
	State json.RawMessage `json:"state,omitempty"`
	// LastUp and LastDown are the times of the last changes of the number, and Now is the present time.
	LastUp   Time `json:"last_up"`
	LastDown Time `json:"last_down"`
	Now      Time `json:"now"`
	// Config is the autoscaling_config.
	Config json.RawMessage `json:"config,omitempty"`
}

// Answer is the answer of a policy for one deployment.
type Answer struct {
	// Replicas is the number that is needed, which need not be whole.
	Replicas float64
	// State is for the next call. nil leaves the state as it is.
	State json.RawMessage
}

// Policy says how many replicas deployments need.
type Policy interface {
	// Ask gives the numbers by deployment. A deployment that is not among them keeps its number. A policy of one deployment gets one view. The end of ctx
	// ends the question, and not always the policy.
	Ask(ctx context.Context, views []View) (map[string]Answer, error)
}

// Error is the failure of a policy. Traceback has the frames of its code; "" for none.
type Error struct {
	Text      string
	Traceback string
}

func (e *Error) Error() string { return e.Text }

// Func is a policy in Go. It gets one view after the other, in a question of its own each.
type Func func(ctx context.Context, v View) (Answer, error)

// Ask calls the function for each view. Its panic is an error.
func (f Func) Ask(ctx context.Context, views []View) (map[string]Answer, error) {
	out := make(map[string]Answer, len(views))
	for _, v := range views {
		a, err := f.guarded(ctx, v)
		if err == nil {
			err = check(a)
		}
		if err != nil {
			return nil, err
		}
		out[v.Deployment] = a
	}
	return out, nil
}

func (f Func) guarded(ctx context.Context, v View) (a Answer, err error) {
	defer recovered(&err)
	return f(ctx, v)
}

// Together asks a function in Go for all deployments of an application. Its panic is an error, as is a number for another deployment.
func Together(f func(views []View) (map[string]Answer, error), views []View) (answers map[string]Answer, err error) {
	defer recovered(&err)
	if answers, err = f(views); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		if !slices.ContainsFunc(views, func(v View) bool { return v.Deployment == name }) {
			return nil, &Error{Text: fmt.Sprintf("it has answered for %q, which is no autoscaled deployment of the application", name)}
		}
		if err := check(answers[name]); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// recovered makes an error of a panic.
func recovered(err *error) {
	if p := recover(); p != nil {
		e := call.Recovered(p)
		*err = &Error{Text: e.Message, Traceback: e.Traceback}
	}
}

// stateMax is the size of a state: the node writes it to its store.
const stateMax = 64 << 10

func check(a Answer) error {
	if math.IsNaN(a.Replicas) || math.IsInf(a.Replicas, 0) || a.Replicas < 0 {
		return &Error{Text: fmt.Sprintf("it must answer a number of replicas, 0 or more, and has answered %v", a.Replicas)}
	}
	if len(a.State) > stateMax {
		return &Error{Text: fmt.Sprintf("its state has %d bytes as JSON, at most %d", len(a.State), stateMax)}
	}
	return nil
}

var errClosed = errors.New("the policy's application has ended, or has another revision")
