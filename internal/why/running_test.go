package why

import (
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// TestRunning: a request whose calls still wait or run, a request with records beside them, and an ended request with a call that goes on.
func TestRunning(t *testing.T) {
	t.Parallel()
	front := helvetype.Call{ID: "a", RequestID: "id", App: "shop", Deployment: "Front", Method: "run", Replica: "F#1", State: helvetype.CallRunning, Since: at}
	waits := helvetype.Call{ID: "b", Parent: "a", RequestID: "id", App: "shop", Deployment: "Ranker", Method: "rank", State: helvetype.CallWaiting, Since: at.Add(time.Second), WaitsFor: "a slot of shop/Ranker"}
	stream := helvetype.Call{ID: "c", Parent: "gone", RequestID: "id", App: "shop", Deployment: "Writer", Method: "write", Replica: "W#1", State: helvetype.CallRunning, Since: at, Stream: true}
	other := helvetype.Call{ID: "d", RequestID: "other", State: helvetype.CallRunning, Since: at}
	now := at.Add(5 * time.Second)
	for name, c := range map[string]struct {
		r          helvetype.RequestTrace
		calls      []helvetype.Call
		want, next string
	}{
		"waits":     {helvetype.RequestTrace{}, []helvetype.Call{other, front, waits}, "request id to shop/Front.run has not ended, after 5000 ms: its call shop/Ranker.rank waits since 4000 ms for a slot of shop/Ranker", "helve calls shop/Ranker"},
		"no parent": {helvetype.RequestTrace{}, []helvetype.Call{front, {ID: "x", RequestID: "id", App: "shop", Deployment: "Ranker", State: helvetype.CallWaiting, Since: at.Add(time.Second)}}, "its call shop/Ranker.(default) waits since 4000 ms for a slot", "helve calls shop/Ranker"},
		"runs":      {helvetype.RequestTrace{}, []helvetype.Call{front}, "its call shop/Front.run runs since 5000 ms at replica F#1", "helve profile shop/Front/F#1 --stacks"},
		"has parts": {helvetype.RequestTrace{Request: helvetype.Request{ID: "id", App: "shop"}}, []helvetype.Call{front}, "request id to shop has not ended: its call shop/Front.run runs", "--stacks"},
		"is not read": {
			helvetype.RequestTrace{},
			[]helvetype.Call{front, {ID: "c", Parent: "a", RequestID: "id", App: "shop", Deployment: "Writer", Method: "write", Replica: "W#1", State: helvetype.CallRunning, Since: at.Add(time.Second), Stream: true, UnreadSince: at.Add(2 * time.Second)}},
			"its call shop/Writer.write runs since 4000 ms at replica W#1, as a stream or for HTTP, and waits for its reader: the method Front.run of replica F#1 has read nothing, or too little, for 3000 ms", "helve profile shop/Front/F#1 --stacks",
		},
		"has ended": {helvetype.RequestTrace{Request: helvetype.Request{ID: "id", Status: 200, Kept: "slow"}, Sentence: "it took 12 ms"}, []helvetype.Call{stream}, "it took 12 ms; it has ended, and its call shop/Writer.write runs since 5000 ms at replica W#1, as a stream or for HTTP all the same", "--stacks"},
	} {
		if ok := Running(&c.r, "id", c.calls, now); !ok || !strings.Contains(c.r.Sentence, c.want) || !strings.Contains(c.r.Next, c.next) || len(c.r.Spans) == 0 || !c.r.Running {
			t.Errorf("%s: %v %s\nwant %s\nnext %s", name, ok, c.r.Sentence, c.want, c.r.Next)
		}
	}
	ended := helvetype.RequestTrace{Request: helvetype.Request{ID: "id"}, Spans: []helvetype.Span{{ID: "x", Kind: "span"}}}
	Running(&ended, "id", []helvetype.Call{front, waits}, now)
	for i, want := range []struct {
		open bool
		wait string
	}{{}, {open: true}, {true, waits.WaitsFor}} {
		if s := ended.Spans[i]; s.Open != want.open || s.WaitsFor != want.wait {
			t.Errorf("span %d of a request that runs: %+v, want %+v", i, s, want)
		}
	}
	if Running(&helvetype.RequestTrace{}, "id", []helvetype.Call{other}, now) {
		t.Error("a request runs by the call of another one")
	}
}

// TestAbandoned: slots for which calls wait, and that are held by calls without a caller, lead to these calls, and not to more replicas.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	now := at.Add(time.Hour)
	held := func(ended int, since time.Time) (all []helvetype.Call) {
		for i := range 4 {
			all = append(all, helvetype.Call{App: "shop", Deployment: "Writer", Method: "write", RequestID: "r", State: helvetype.CallRunning, Stream: true, CallerEnded: i < ended, Since: since})
		}
		return all
	}
	plain := held(4, at) // a method begins calls, and answers before they end
	for i := range plain {
		plain[i].Stream = false
	}
	a := helvetype.ApplicationStatus{Deployments: map[string]helvetype.DeploymentStatus{"Writer": {Calls: helvetype.Calls{Queued: 40}}, "Chat": {}}}
	for name, c := range map[string]struct {
		of    helvetype.Object
		calls []helvetype.Call
		says  bool
	}{
		"most were left":       {shop(), held(3, at), true},
		"of the deployment":    {shop("Writer"), held(4, at), true},
		"of another":           {shop("Chat"), held(4, at), false},
		"of a replica":         {shop("Writer", "W#1"), held(4, at), false},
		"one of four was left": {shop(), held(1, at), false},
		"calls of no stream":   {shop(), plain, false},
		"they are ending":      {shop(), held(4, now.Add(-time.Second)), false},
	} {
		e := helvetype.Explanation{Object: c.of, Next: "helve scale shop/Writer N"}
		Held(&e, a, c.calls, now)
		if got := strings.Contains(e.Sentence, "calls that hold slots of Writer were left by their callers, the oldest for 3600.0 s"); got != c.says || strings.Contains(e.Next, "helve restart shop/Writer frees") != c.says {
			t.Errorf("%s: %s\nnext %s", name, e.Sentence, e.Next)
		}
	}
}

// TestUnread: an answer names the streams whose readers have read nothing for a while, and the reader of the oldest.
func TestUnread(t *testing.T) {
	t.Parallel()
	now := at.Add(time.Hour)
	front := helvetype.Call{ID: "f", App: "shop", Deployment: "Front", Method: "run", Replica: "F#1", State: helvetype.CallRunning, Since: at}
	stream := func(parent string, since time.Duration, left bool) helvetype.Call {
		return helvetype.Call{Parent: parent, App: "shop", Deployment: "Writer", Method: "write", Replica: "W#1", RequestID: "r", State: helvetype.CallRunning, Stream: true, CallerEnded: left, UnreadSince: now.Add(-since)}
	}
	a := helvetype.ApplicationStatus{Deployments: map[string]helvetype.DeploymentStatus{"Writer": {}, "Chat": {}}}
	for name, c := range map[string]struct {
		of         helvetype.Object
		calls      []helvetype.Call
		want, next string
	}{
		"a method":         {shop(), []helvetype.Call{front, stream("f", 42*time.Second, false)}, "; a stream of Writer.write waits for its reader: the method Front.run of replica F#1 has read nothing, or too little, for 42.0 s", "helve profile shop/Front/F#1 --stacks"},
		"a client":         {shop("Writer"), []helvetype.Call{stream("", 42*time.Second, false)}, "the client of request r has read nothing, or too little, for 42.0 s", "helve calls shop/Writer lists them; helve why --request r is the oldest"},
		"of the replica":   {shop("Writer", "W#1"), []helvetype.Call{stream("", 42*time.Second, false)}, "the client of request r", "helve why --request r"},
		"its caller left":  {shop(), []helvetype.Call{stream("gone", 42*time.Second, true)}, "a method that has returned has read nothing", "has to read it or to end it"},
		"several":          {shop(), []helvetype.Call{front, stream("f", time.Minute, false), stream("", 42*time.Second, false), stream("", time.Second, false)}, "; 2 of the 3 calls that run in Writer wait for the readers of their streams: of the oldest, the method Front.run of replica F#1 has read nothing, or too little, for 60.0 s", "F#1"},
		"a moment":         {shop(), []helvetype.Call{stream("", time.Second, false)}, "", ""},
		"of another":       {shop("Chat"), []helvetype.Call{stream("", 42*time.Second, false)}, "", ""},
		"of other replica": {shop("Writer", "W#2"), []helvetype.Call{stream("", 42*time.Second, false)}, "", ""},
		"other app":        {helvetype.Object{Kind: helvetype.KindApplication, App: "other"}, []helvetype.Call{stream("", 42*time.Second, false)}, "", ""},
	} {
		e := helvetype.Explanation{Object: c.of}
		Held(&e, a, c.calls, now)
		if (c.want == "") != (e.Sentence == "") || !strings.Contains(e.Sentence, c.want) || !strings.Contains(e.Next, c.next) {
			t.Errorf("%s: %s\nwant %s\nnext %s", name, e.Sentence, c.want, e.Next)
		}
	}
}
