package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	for _, r := range []helvetest.Runner{helvetest.Local, helvetest.Encoded, helvetest.Pipe} {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { lifecycle(t, r) })
		})
	}
}

// Cared is an instance with every hook.
type Cared struct {
	mu     *sync.Mutex
	log    *[]string
	sick   *atomic.Bool // of the first one
	first  bool
	config CaredConfig
}

type CaredConfig struct{ Word string }

func (c *Cared) note(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.log = append(*c.log, s)
}

func (c *Cared) Reconfigure(_ context.Context, k CaredConfig) error {
	if k.Word == "bad" {
		return errors.New("a bad word")
	}
	c.config = k
	c.note("reconfigure " + k.Word)
	return nil
}

func (c *Cared) CheckHealth(context.Context) error {
	c.note("check")
	if c.first && c.sick.Load() {
		return errors.New("sick")
	}
	return nil
}

func (c *Cared) Close(context.Context) error { c.note("close"); return nil }

func (c *Cared) Word(ctx context.Context, wait time.Duration) (string, error) {
	time.Sleep(wait) // fake time
	return c.config.Word, nil
}

func lifecycle(t *testing.T, r helvetest.Runner) {
	var mu sync.Mutex
	var log []string
	var sick atomic.Bool
	made := 0
	take := func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		l := log
		log = nil
		return l
	}
	sys := helvetest.Start(t, r.Config, func() (*helve.App, error) {
		app := helve.NewApp("cared")
		h := helve.Deploy(app, "Cared", func(context.Context) (*Cared, error) {
			made++
			return &Cared{mu: &mu, log: &log, sick: &sick, first: made == 1}, nil
		}, helve.Options{UserConfig: CaredConfig{"first"}, GracefulShutdownTimeout: new(5 * time.Second)})
		app.Ingress(helve.MethodOf(h, (*Cared).Word))
		return app, nil
	})
	h, err := helve.HandleOf[*Cared](sys, "cared", "Cared")
	if err != nil {
		t.Fatal(err)
	}
	word, ctx := helve.MethodOf(h, (*Cared).Word), t.Context()
	if got := take(); !slices.Equal(got, []string{"reconfigure first", "check"}) {
		t.Errorf("%v", got)
	}
	if err := sys.Reconfigure(ctx, "cared", "Cared", CaredConfig{"second"}); err != nil {
		t.Error(err)
	}
	if w, err := word.Call(ctx, 0); w != "second" || err != nil {
		t.Errorf("%s, %v", w, err)
	}
	for _, bad := range []any{CaredConfig{"bad"}, map[string]int{"wrd": 1}, make(chan int)} {
		if err := sys.Reconfigure(ctx, "cared", "Cared", bad); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	if err := sys.Reconfigure(ctx, "cared", "Cared", CaredConfig{"second"}); err != nil {
		t.Error(err)
	}
	take()
	time.Sleep(95 * time.Second) // in fake time, nine or ten periods of 10 s
	if n := len(take()); n < 8 || n > 11 {
		t.Errorf("%d checks in 95 s", n)
	}
	before := sys.Status().Applications["cared"].Deployments["Cared"].Replicas[0].ID
	sick.Store(true)
	slow := word.Remote(ctx, 34*time.Second) // the call runs while its replica is replaced
	time.Sleep(34 * time.Second)             // in fake time, three periods fail
	sick.Store(false)
	synctest.Wait()
	time.Sleep(time.Second) // in fake time: the next replica starts
	after := sys.Status().Applications["cared"].Deployments["Cared"]
	if len(after.Replicas) != 1 || after.Replicas[0].ID == before || after.Status != "HEALTHY" {
		t.Errorf("%s was followed by %+v", before, after)
	}
	if w, err := slow.Result(ctx); w != "second" || err != nil {
		t.Errorf("the call under way: %s, %v", w, err)
	}
	got := take()
	if !slices.Contains(got, "close") || !slices.Contains(got, "reconfigure second") {
		t.Errorf("%v", got)
	}
	// Drain: calls that run may finish, within the graceful shutdown timeout.
	inTime, late := word.Remote(ctx, 3*time.Second), word.Remote(ctx, time.Minute)
	synctest.Wait()
	start := time.Now()
	if err := sys.Delete(ctx, "cared"); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < 5*time.Second || took > 11*time.Second {
		t.Errorf("the drain took %v", took)
	}
	if w, err := inTime.Result(ctx); w != "second" || err != nil {
		t.Errorf("%s, %v", w, err)
	}
	if got := take(); !slices.Contains(got, "close") {
		t.Errorf("%v", got)
	}
	late.Cancel()
	time.Sleep(time.Minute) // in fake time: its method, which ignores its context, ends within the bubble
}
