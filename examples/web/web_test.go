package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// compile builds the iris example. Executables with different ids are different builds of the same code.
func compile(t *testing.T, path, id string) {
	t.Helper()
	fixture.GoBuild(t, "-ldflags=-buildid="+id, "-o", path+".new", "./examples/iris")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func serve(t *testing.T, model string) (*helve.System, string) {
	t.Helper()
	sys, err := start(t.Context(), model)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sys.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	url, _, err := sys.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return sys, strings.TrimSuffix(url, "/") + prefix
}

const versicolor = `{"sepal_length":6.1,"sepal_width":2.8,"petal_length":4.7,"petal_width":1.2}`

func classify(url, flower string) (status int, answer string, err error) {
	r, err := http.Post(url+"/api/classify", "application/json", strings.NewReader(flower))
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// TestSite: the router answers as it would without Helve, and another build of the model loses no request.
func TestSite(t *testing.T) {
	t.Parallel()
	model := filepath.Join(t.TempDir(), "iris")
	compile(t, model, "one")
	sys, url := serve(t, model)
	for _, test := range []struct {
		name, flower string
		status       int
		has          string
	}{
		{"a flower", versicolor, 200, `"species":"versicolor"`},
		{"no JSON", "{", 400, "unexpected EOF"},
		{"an unknown field", `{"petals":5}`, 400, "petals"},
		{"a flower that cannot be", `{"sepal_length":-1}`, 400, `{"error":"sepal_length: -1 is not a length`},
	} {
		status, got, err := classify(url, test.flower)
		if status != test.status || !strings.Contains(got, test.has) || err != nil || !json.Valid([]byte(got)) {
			t.Errorf("%s: %d %q, %v", test.name, status, got, err)
		}
	}
	for path, want := range map[string]string{"/": "200 text/html; charset=utf-8", "/style.css": "200 text/css; charset=utf-8", "/api/health": "204 ", "/none": "404 text/plain; charset=utf-8", "/index.html": "200 text/html; charset=utf-8"} {
		r, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if got := fmt.Sprint(r.StatusCode, " ", r.Header.Get("Content-Type")); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}

	compile(t, model, "two")
	var answered atomic.Int64
	stop, errs := make(chan struct{}), make(chan error, 4)
	var clients sync.WaitGroup
	for range cap(errs) {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, got, err := classify(url, versicolor); status != 200 || err != nil {
					errs <- errors.Join(err, fmt.Errorf("%d %s", status, got))
					return
				}
				answered.Add(1)
			}
		})
	}
	atLeast := func(n int64) {
		t.Helper()
		fixture.Eventually(t, func() string {
			if got := answered.Load(); got < n && len(errs) == 0 {
				return fmt.Sprintf("%d requests are answered", got)
			}
			return ""
		})
	}
	atLeast(20)
	before := replicas(sys)
	if err := deployModel(t.Context(), sys, model); err != nil {
		t.Error(err)
	}
	atLeast(answered.Load() + 20)
	close(stop)
	clients.Wait()
	select {
	case err := <-errs:
		t.Errorf("a request was lost: %v", err)
	default:
	}
	if after := replicas(sys); len(after) == 0 || slices.ContainsFunc(after, func(id string) bool { return slices.Contains(before, id) }) {
		t.Errorf("the replicas are %v after %v", after, before)
	}
}

// replicas are the ids of the replicas of the model that run.
func replicas(sys *helve.System) (ids []string) {
	for _, r := range sys.Status().Applications["iris"].Deployments["Front"].Replicas {
		if r.State == helvetype.ReplicaRunning {
			ids = append(ids, r.ID)
		}
	}
	return ids
}
