package why

import (
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

const constructor = `shop/Ranker.constructor: no database
Traceback (most recent call last):
  File "/srv/ranker.py", line 7, in __init__
    self.db = connect()
              ^^^^^^^^^
  File "/usr/lib/python3.11/site-packages/db.py", line 90, in connect
    raise OperationalError("no database")
db.errors.OperationalError: no database
`

func TestBrief(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ message, brief, details string }{
		"one line":                {"killed by SIGKILL", "killed by SIGKILL", ""},
		"several lines":           {"panic: no\n\ngoroutine 1\n", "panic: no", "\ngoroutine 1"},
		"a traceback":             {constructor, "shop/Ranker.constructor: no database (OperationalError in __init__, ranker.py line 7)", strings.TrimSpace(constructor[strings.Index(constructor, "\n"):])},
		"the exception is named":  {"RuntimeError: no\n  File \"/a/b.py\", line 3, in <module>\nRuntimeError: no", "RuntimeError: no (in <module>, b.py line 3)", "  File \"/a/b.py\", line 3, in <module>\nRuntimeError: no"},
		"of two, the last":        {"x\nTraceback (most recent call last):\n  File \"a.py\", line 1, in f\nKeyError: 1\n\nDuring ...\n\nTraceback (most recent call last):\n  File \"b.py\", line 2, in g\nValueError", "x (ValueError in g, b.py line 2)", "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nKeyError: 1\n\nDuring ...\n\nTraceback (most recent call last):\n  File \"b.py\", line 2, in g\nValueError"},
		"a syntax error":          {"bad\n  File \"/a/b.py\", line 3\n    x = (\n        ^\nSyntaxError: '(' was never closed", "bad: SyntaxError: '(' was never closed (in the module, b.py line 3)", "  File \"/a/b.py\", line 3\n    x = (\n        ^\nSyntaxError: '(' was never closed"},
		"the text is not named":   {"bad:app: the import of 'bad' failed\n\nTraceback (most recent call last):\n  File \"a.py\", line 1, in f\na.b.KeyError: 'x'\n  3 | a:b", "bad:app: the import of 'bad' failed: KeyError: 'x' (in f, a.py line 1)", "\nTraceback (most recent call last):\n  File \"a.py\", line 1, in f\na.b.KeyError: 'x'\n  3 | a:b"},
		"no code of the user's":   {"x\n  File \"/p/helve/_worker.py\", line 3, in main\nOSError: y", "x: OSError: y (in main, _worker.py line 3)", "  File \"/p/helve/_worker.py\", line 3, in main\nOSError: y"},
		"nothing":                 {"", "", ""},
		"a line without an error": {"x\n  File \"a.py\", line", "x", "  File \"a.py\", line"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := brief(c.message); got != c.brief {
				t.Errorf("%q, want %q", got, c.brief)
			}
			if got := details(c.message); got != c.details {
				t.Errorf("the details are %q, want %q", got, c.details)
			}
		})
	}
}

// standing are the stacks of a worker of Python whose event loop stands.
const standing = `Thread MainThread:
  File "/p/helve/_worker.py", line 730, in main
    loop.run_forever()
  File "/usr/lib/python3.11/asyncio/base_events.py", line 607, in run_forever
    self._run_once()
  File "/srv/model.py", line 12, in predict
    time.sleep(30)
Thread helve-leash:
  File "/srv/other.py", line 1, in watch
`

// TestTrouble: an answer about an application that is RUNNING, or a deployment that is HEALTHY, has the trouble that these states do not show.
func TestTrouble(t *testing.T) {
	t.Parallel()
	running := func(change func(*helvetype.DeploymentStatus)) helvetype.Status {
		d := helvetype.DeploymentStatus{Status: helvetype.DeploymentHealthy, Wanted: 1, Ready: 1, Replicas: []helvetype.ReplicaStatus{{ID: "R#1", State: helvetype.ReplicaRunning, Ready: true, StartedAt: at}}}
		change(&d)
		return helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Status: helvetype.ApplicationRunning, Deployments: map[string]helvetype.DeploymentStatus{"Ranker": d}}}}
	}
	for name, c := range map[string]struct {
		change         func(*helvetype.DeploymentStatus)
		says, next, in string // in is in the detail
	}{
		"a blocked event loop": {func(d *helvetype.DeploymentStatus) {
			d.Replicas[0].Unresponsive = &helvetype.Unresponsive{Since: at, Stacks: standing}
		}, "replica R#1 gets calls, and has not answered since 2026-01-02T03:04:05.000Z: its event loop is blocked in predict, model.py line 12", "helve profile shop/Ranker/R#1 --stacks", "time.sleep(30)"},
		"a stopped process": {func(d *helvetype.DeploymentStatus) {
			d.Replicas[0].Unresponsive = &helvetype.Unresponsive{Since: at, Stacks: "State: T (stopped)\nThreads: 3"}
		}, "has not answered since 2026-01-02T03:04:05.000Z: the state of its process is T (stopped)", "--stacks", "Threads: 3"},
		"a queue": {func(d *helvetype.DeploymentStatus) { d.Calls.Queued, d.Calls.Running = 2, 5 },
			"2 calls wait for a slot, because the ready replicas run as many calls as max_ongoing_requests allows (5)", "helve scale shop/Ranker N", ""},
		"a circle": {func(d *helvetype.DeploymentStatus) { d.Cycle, d.Calls.Queued = "calls wait in a circle", 2 },
			"calls wait in a circle", "after at most graceful_shutdown_timeout_s, but the circle comes back while such requests come", ""},
		"a replica has ended": {func(d *helvetype.DeploymentStatus) {
			d.LastExit = &helvetype.Exit{Replica: "R#0", At: at, Reason: "exit status 3", Lines: []string{"Segmentation", "fault"}}
		}, "replica R#0 ended at 2026-01-02T03:04:05.000Z: exit status 3, and another one has taken its place", "helve logs shop/Ranker --replica R#0", "Segmentation\nfault"},
		"a replica drains": {func(d *helvetype.DeploymentStatus) {
			d.Replicas[0].State, d.Calls.Running = helvetype.ReplicaStopping, 2
		}, "replica R#1 finishes 2 calls before it ends", "graceful_shutdown_timeout_s", ""},
		"calls run during a delete": {func(d *helvetype.DeploymentStatus) { d.Trigger, d.Calls.Running = helvetype.TriggerDeleting, 2 },
			"its replicas end after the calls that it still has (2)", "graceful_shutdown_timeout_s", ""},
		"calls were rejected": {func(d *helvetype.DeploymentStatus) {
			d.Calls.Errors, d.LastMinute = 3, &helvetype.LastMinute{Seconds: 60, Rejected: 12}
		}, "12 calls of the last 60 s found a full queue (max_queued_requests) and were rejected", "helve scale shop/Ranker N adds replicas; max_queued_requests of shop/Ranker", ""},
		"calls have failed": {func(d *helvetype.DeploymentStatus) { d.Calls.Errors = 3 }, "", "helve why --failed shop", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := running(c.change)
			for _, of := range []helvetype.Object{shop(), shop("Ranker")} {
				e, _ := Explain(of, s, kept{}, at.Add(time.Minute))
				if !strings.Contains(e.Sentence, c.says) || !strings.Contains(e.Next, c.next) || !strings.Contains(e.Detail, c.in) {
					t.Errorf("%+v", e)
				}
			}
		})
	}
	s := running(func(d *helvetype.DeploymentStatus) {
		d.LastExit = &helvetype.Exit{Replica: "R#0", At: at, Reason: "exit status 3"}
	})
	if e, _ := Explain(shop(), s, kept{}, at.Add(recently)); strings.Contains(e.Sentence, "R#0") {
		t.Errorf("an end of a quarter of an hour ago is named: %s", e.Sentence)
	}
}

// TestQueueWhileReplicasStop: the calls of replicas that stop hold no slot for which calls wait, so their number is not that of the ready replicas.
func TestQueueWhileReplicasStop(t *testing.T) {
	t.Parallel()
	d := helvetype.DeploymentStatus{
		Status: helvetype.DeploymentHealthy, Wanted: 1, Ready: 1, Calls: helvetype.Calls{Queued: 2, Running: 10},
		Replicas: []helvetype.ReplicaStatus{{ID: "R#0", State: helvetype.ReplicaStopping}, {ID: "R#1", State: helvetype.ReplicaRunning, Ready: true}},
	}
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Status: helvetype.ApplicationRunning, Deployments: map[string]helvetype.DeploymentStatus{"Ranker": d}}}}
	if e, _ := Explain(shop(), s, kept{}, at); !strings.Contains(e.Sentence, "as max_ongoing_requests allows") || strings.Contains(e.Sentence, "(10)") {
		t.Error(e.Sentence)
	}
}

// TestLackOfMemory: the next command after the end of a replica that lacked memory looks at the memory of one that runs.
func TestLackOfMemory(t *testing.T) {
	t.Parallel()
	d := helvetype.DeploymentStatus{
		Status: helvetype.DeploymentHealthy, Wanted: 1, Ready: 1, Replicas: []helvetype.ReplicaStatus{{ID: "R#1", State: helvetype.ReplicaRunning, Ready: true}},
		LastExit: &helvetype.Exit{Replica: "R#0", At: at, Reason: "killed by SIGKILL, probably by the kernel for lack of memory"},
	}
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Status: helvetype.ApplicationRunning, Deployments: map[string]helvetype.DeploymentStatus{"Ranker": d}}}}
	if e, _ := Explain(shop(), s, kept{}, at.Add(time.Minute)); !strings.Contains(e.Next, "helve profile shop/Ranker/R#1 --heap") {
		t.Error(e.Next)
	}

	d.LastExit.Reason = "killed by SIGKILL, by another process and not for lack of memory" // d and s share it
	if e, _ := Explain(shop(), s, kept{}, at.Add(time.Minute)); !strings.HasPrefix(e.Next, "helve why shop/Ranker/R#0") {
		t.Error(e.Next)
	}
}
