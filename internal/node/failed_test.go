package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

func TestFailedDeploysResume(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0)
	event := func(app, reason, revision string) helvetype.Event {
		return helvetype.Event{
			Object: helvetype.Object{Kind: helvetype.KindApplication, App: app}, Time: at, Reason: reason, Message: "no database",
			Inputs: map[string]string{inputTarget: revision, inputBy: "ann", inputSource: "default"},
		}
	}
	var f failedDeploys
	f.resume([]helvetype.Event{
		event("new", buildFailed, "0"), event("old", buildFailed, "3"), event("settled", buildFailed, "2"), event("settled", buildSettled, ""),
		{Object: helvetype.Object{Kind: helvetype.KindNode}, Reason: buildFailed},
	})
	want := helvetype.FailedDeploy{At: at, By: "ann", Source: "default", Error: "no database"}
	for _, c := range []struct {
		app      string
		revision int
		there    bool
	}{{"new", 0, true}, {"new", 1, false}, {"old", 3, true}, {"old", 4, false}, {"settled", 2, false}, {"", 0, false}} {
		one, ok := f.of(c.app, c.revision)
		if ok != c.there || ok && one.FailedDeploy != want {
			t.Errorf("%q at revision %d: got %+v, %v", c.app, c.revision, one, ok)
		}
	}
}

func TestFailedDeploysAreBounded(t *testing.T) {
	t.Parallel()
	var f failedDeploys
	for i := range failedMax + 10 {
		f.put(fmt.Sprint(i), failedDeploy{FailedDeploy: helvetype.FailedDeploy{At: time.Unix(int64(i), 0)}})
	}
	if n := len(f.names()); n != failedMax {
		t.Errorf("%d are kept", n)
	}
	if _, ok := f.of("9", 0); ok {
		t.Error("an old one is kept")
	}
	if _, ok := f.of("10", 0); !ok {
		t.Error("a new one is not kept")
	}
}
