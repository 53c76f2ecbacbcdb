package operate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/helve-serve/helve/internal/details"
	"github.com/helve-serve/helve/internal/token"
)

// operators is how many operators change a node at once.
const operators = 50

// testNoUpdateLost has operators that each want one replica more than there are. An operator reads the number, and writes it with the generation that
// it has read; one that is refused reads again. No update may be lost: there are as many replicas more as operators.
func testNoUpdateLost(t *testing.T, binary string) {
	n := start(t, binary)
	sys := n.operator()
	defer sys.Close(context.Background())
	if err := sys.Deploy(t.Context(), form("shop", "v1")); err != nil {
		t.Fatalf("%v\n%s", err, n.report())
	}
	bearer, err := token.Read(n.state)
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + n.admin.Address()
	increment := func() (done bool, err error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/serve/applications/", nil)
		if err != nil {
			return false, err
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		var all details.Instance
		err = json.NewDecoder(r.Body).Decode(&all)
		r.Body.Close()
		if err != nil {
			return false, err
		}
		body := fmt.Sprintf(`{"target_num_replicas": %d}`, all.Applications["shop"].Deployments["Page"].TargetNumReplicas+1)
		req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1/applications/shop/deployments/Page/scale", strings.NewReader(body))
		if err != nil {
			return false, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+bearer)
		req.Header.Set("If-Match", r.Header.Get("ETag"))
		r, err = http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		defer r.Body.Close()
		switch r.StatusCode {
		case http.StatusOK:
			return true, nil
		case http.StatusPreconditionFailed:
			return false, nil
		}
		return false, fmt.Errorf("status %s", r.Status)
	}
	var all sync.WaitGroup
	for range operators {
		all.Go(func() {
			for done := false; !done; {
				var err error
				if done, err = increment(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	a, _, _ := n.application("shop")
	if got := a.Deployments["Page"].TargetNumReplicas; got != 2+operators {
		t.Errorf("%d operators have led from 2 to %d replicas, want %d", operators, got, 2+operators)
	}
	n.await("the replicas", func() bool { a, _, _ := n.application("shop"); return settled(a) })
}

// testAtOnce has operators that deploy, roll back and scale one application at the same time. Each of them is told how that has ended. The revisions follow
// each other in one order, one of them runs, and later revisions have failed or were superseded.
func testAtOnce(t *testing.T, binary string) {
	n := start(t, binary)
	first := n.operator()
	defer first.Close(context.Background())
	if err := first.Deploy(t.Context(), form("shop", "first")); err != nil {
		t.Fatalf("%v\n%s", err, n.report())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	told := map[string]int{}
	for i := range operators {
		sys := n.operator()
		defer sys.Close(context.Background())
		all.Go(func() {
			what, err := "deploy", error(nil)
			switch i % 5 {
			case 3:
				what, err = "rollback", sys.Rollback(ctx, "shop", 0)
			case 4:
				what, err = "scale", sys.Scale(ctx, "shop", "Page", 1+i%3)
			default:
				err = sys.Deploy(ctx, form("shop", fmt.Sprint("v", i)))
			}
			if ctx.Err() != nil {
				t.Errorf("a %s is not over: %v", what, err)
			}
			if err != nil {
				what += " refused"
			}
			mu.Lock()
			defer mu.Unlock()
			told[what]++
		})
	}
	all.Wait()
	n.await("the application to be whole", func() bool { a, _, _ := n.application("shop"); return settled(a) })
	if told["deploy"]+told["rollback"] == 0 || told["scale"] == 0 {
		t.Errorf("no change of the version, or no scale, of %d operators has come about: %v", operators, told)
	}

	a, _, _ := n.application("shop")
	history, err := n.admin.History(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	var states []string // the newest first
	for i, r := range history.Revisions {
		states = append(states, fmt.Sprint(r.Number, " ", r.State))
		if i > 0 && r.Number >= history.Revisions[i-1].Number {
			t.Errorf("revision %d follows %d in the history, which has the newest first", r.Number, history.Revisions[i-1].Number)
		}
		if r.Number > a.Revision && (r.State == "running" || r.State == "starting") || r.Number == a.Revision && r.State != "running" {
			t.Errorf("revision %d runs, and the history has revision %d as %s", a.Revision, r.Number, r.State)
		}
	}
	if len(history.Revisions) < 2 {
		t.Errorf("the history has %d revisions", len(history.Revisions))
	}
	versions := map[string]int{}
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	for range 20 {
		text, err := ask(client, "http://"+n.http+"/shop")
		if err != nil {
			t.Fatal(err)
		}
		versions[text]++
	}
	if len(versions) != 1 {
		t.Errorf("the application answers as the versions %v at once", versions)
	}
	t.Logf("told: %v; %d runs, %q", told, a.Revision, states)
}
