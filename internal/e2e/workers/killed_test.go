package workers_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestKilledWorker kills a worker with SIGKILL while 16 clients call. Every execution appends its id to a file, so that
// the file says what ran: no id may be there twice, every answered call must be there, and only calls that had been
// started may fail. The replacement must serve, with the clients waiting in the queue meanwhile.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		killedWorker(t, helvetest.Start(t, helve.Config{Isolation: helve.Process}, fixture.BuildGo), "go")
	})
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		killedWorker(t, helvetest.Start(t, helve.Config{}, fixture.BuildPython), "python")
	})
}

// Sender passes entries on from one worker to another, which the node relays.
type Sender struct {
	record helve.Method[fixture.Entry, string]
}

func (s *Sender) Send(ctx context.Context, e fixture.Entry) (string, error) {
	if _, err := (&fixture.Subject{}).Record(ctx, fixture.Entry{File: e.File + ".sent", ID: e.ID}); err != nil {
		return "", err
	}
	return s.record.Call(ctx, e)
}

var buildSender = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("sender")
	record := helve.MethodOf(helve.Python[fixture.Service](app, "Subject", "subject:Subject", helve.Args{}, fixture.SubjectOptions()), fixture.Service.Record)
	o := fixture.SubjectOptions()
	o.Isolation, o.Uses = helve.Process, []helve.Target{record}
	sender := helve.Deploy(app, "Sender", func(context.Context) (*Sender, error) { return &Sender{record}, nil }, o)
	app.Ingress(helve.MethodOf(sender, (*Sender).Send))
	return app, nil
})

// TestKilledOnTheWay kills workers at both ends of relayed calls, and calls with bodies that travel beside their frames.
// HELVE_TEST_SEED runs a seed again.
func TestKilledOnTheWay(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("HELVE_TEST_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("HELVE_TEST_SEED=%d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	sys := helvetest.Start(t, helve.Config{}, buildSender)
	h, err := helve.HandleOf[*Sender](sys, "sender", "Sender")
	if err != nil {
		t.Fatal(err)
	}
	send := helve.MethodOf(h, (*Sender).Send)
	file := filepath.Join(t.TempDir(), "ran")
	pad := bytes.Repeat([]byte("x"), 3<<19)
	const clients, kills, after = 10, 5, 60
	var next, answered atomic.Int64
	var mu sync.Mutex
	var ok, lost []string
	call := func(size int) {
		id := strconv.FormatInt(next.Add(1), 10)
		got, err := send.Call(t.Context(), fixture.Entry{File: file, ID: id, MS: 1, Pad: pad[:size]})
		mu.Lock()
		defer mu.Unlock()
		if err == nil && got == id {
			ok = append(ok, id)
		} else if lost = append(lost, id); helve.ReasonOf(err) != helve.ReplicaDied {
			t.Errorf("call %s: %q, %v", id, got, err)
		}
		answered.Add(1)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		sizes := rand.New(rand.NewPCG(draw.Uint64(), 0))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				size := 0
				if sizes.IntN(4) == 0 { // large ones between small ones
					size = 300_000 + sizes.IntN(len(pad)-300_000)
				}
				call(size)
			}
		})
	}
	reach := func(n int64) {
		for answered.Load() < n && t.Context().Err() == nil {
			call(0)
		}
	}
	most := 0
	for range kills {
		reach(answered.Load() + after + draw.Int64N(after))
		victim, takes := "Subject", fixture.Ongoing+1
		if draw.IntN(2) == 0 { // all its replicas share a worker
			victim, takes = "Sender", fixture.Replicas*fixture.Ongoing+1
		}
		if err := syscall.Kill(aPID(t, sys, "sender", victim), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		most += takes
	}
	reach(answered.Load() + after)
	close(stop)
	wg.Wait()
	for _, f := range []string{file + ".sent", file} {
		ran := map[string]bool{}
		for _, id := range fixture.Lines(f) {
			if ran[id] {
				t.Errorf("call %s ran twice, says %s", id, filepath.Base(f))
			}
			ran[id] = true
		}
		for _, id := range ok {
			if !ran[id] {
				t.Errorf("call %s was answered and never ran, says %s", id, filepath.Base(f))
			}
		}
	}
	t.Logf("%d answered, %d lost in %d kills", len(ok), len(lost), kills)
	if len(lost) > most {
		t.Errorf("%d calls were lost; only those that had been started may be, at most %d", len(lost), most)
	}
}

func killedWorker(t *testing.T, s *helve.System, app string) {
	h, err := helve.HandleOf[fixture.Service](s, app, "Subject")
	if err != nil {
		t.Fatal(err)
	}
	record := helve.MethodOf(h, fixture.Service.Record)
	file := filepath.Join(t.TempDir(), "ran")
	const clients, kills, after = 16, 3, 400
	var next, answered atomic.Int64
	var mu sync.Mutex
	var ok, lost []string
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				id := strconv.FormatInt(next.Add(1), 10)
				got, err := record.Call(t.Context(), fixture.Entry{File: file, ID: id, MS: 1, Pad: nil})
				mu.Lock()
				if err == nil && got == id {
					ok = append(ok, id)
				} else if lost = append(lost, id); helve.ReasonOf(err) != helve.ReplicaDied {
					t.Errorf("call %s: %q, %v", id, got, err)
				}
				mu.Unlock()
				answered.Add(1)
			}
		})
	}
	reach := func(n int64) {
		for answered.Load() < n && t.Context().Err() == nil {
			if _, err := record.Call(t.Context(), fixture.Entry{File: file, ID: "probe" + strconv.FormatInt(next.Add(1), 10), MS: 0, Pad: nil}); err != nil && helve.ReasonOf(err) != helve.ReplicaDied {
				t.Errorf("probe: %v", err)
			}
		}
	}
	for range kills {
		reach(answered.Load() + after)
		pid := aPID(t, s, app, "Subject")
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	reach(answered.Load() + after) // the replacement serves
	close(stop)
	wg.Wait()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ran := strings.Fields(string(data))
	slices.Sort(ran)
	for i := 1; i < len(ran); i++ {
		if ran[i] == ran[i-1] {
			t.Errorf("call %s ran twice", ran[i])
		}
	}
	for _, id := range ok {
		if _, there := slices.BinarySearch(ran, id); !there {
			t.Errorf("call %s was answered and never ran", id)
		}
	}
	t.Logf("%d answered, %d lost in %d kills", len(ok), len(lost), kills)
	if most := kills * (fixture.Replicas*fixture.Ongoing + 1); len(lost) > most {
		t.Errorf("%d calls were lost in %d kills; only those that had been started may be, at most %d", len(lost), kills, most)
	}
}

// aPID is the process of a running worker.
func aPID(t *testing.T, s *helve.System, app, deployment string) int {
	for t.Context().Err() == nil {
		for _, r := range s.Status().Applications[app].Deployments[deployment].Replicas {
			if r.PID != 0 && r.State == "RUNNING" {
				return r.PID
			}
		}
	}
	return 0
}

// Crasher has a method that ends its process in ways that Go cannot recover.
type Crasher struct{}

func (*Crasher) Crash(_ context.Context, how string) (string, error) {
	how, file, _ := strings.Cut(how, " at ")
	switch how {
	case "exit":
		os.Exit(3)
	case "panic elsewhere":
		done := make(chan struct{})
		go func() { defer close(done); panic("on a goroutine of the method's own") }()
		<-done
		select {}
	case "first":
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			f.Close()
			os.Exit(3)
		}
	case "fatal":
		var mu sync.Mutex
		mu.Unlock() // a fatal error, not a panic
	}
	return how, nil
}

var buildCrash = fixture.Register(func() (*helve.App, error) {
	app := helve.NewApp("crash")
	h := helve.Deploy(app, "Crasher", func(context.Context) (*Crasher, error) { return &Crasher{}, nil }, helve.Options{Isolation: helve.Process})
	app.Ingress(helve.MethodOf(h, (*Crasher).Crash))
	return app, nil
})

// TestOnlyTheWorkerGoes: a crash that Go cannot recover ends the worker and its call, and another worker replaces it.
func TestOnlyTheWorkerGoes(t *testing.T) {
	t.Parallel()
	sys := helvetest.Start(t, helve.Config{}, buildCrash)
	h, err := helve.HandleOf[*Crasher](sys, "crash", "Crasher")
	if err != nil {
		t.Fatal(err)
	}
	crash := helve.MethodOf(h, (*Crasher).Crash)
	for _, how := range []string{"exit", "panic elsewhere", "fatal"} {
		_, err := crash.Call(t.Context(), how)
		fixture.WantReason(t, err, helve.ReplicaDied)
		if got, err := crash.Call(t.Context(), "fine"); got != "fine" || err != nil { // waits for the next worker
			t.Errorf("after %q: %q, %v", how, got, err)
		}
	}
}

// TestIdempotent: a call that may run twice does when its worker dies, and no more often.
func TestIdempotent(t *testing.T) {
	t.Parallel()
	sys := helvetest.Start(t, helve.Config{}, buildCrash)
	h, err := helve.HandleOf[*Crasher](sys, "crash", "Crasher")
	if err != nil {
		t.Fatal(err)
	}
	crash := helve.MethodOf(h, (*Crasher).Crash)
	first := func(name string) string { return "first at " + filepath.Join(t.TempDir(), name) }
	if got, err := crash.With(helve.Idempotent).Call(t.Context(), first("a")); got != "first" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err = crash.Call(t.Context(), first("c"))
	fixture.WantReason(t, err, helve.ReplicaDied)
	_, err = crash.With(helve.Idempotent).Call(t.Context(), "exit")
	fixture.WantReason(t, err, helve.ReplicaDied)
}
