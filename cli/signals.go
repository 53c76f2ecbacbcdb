package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// burstTime is how long one wish to end may take to arrive: timeout(1), and supervisors that signal a process and then its whole
// group, send one signal twice. A later signal is a second wish.
const burstTime = time.Second

// wishes are the signals of a command that serves. The first SIGTERM, SIGINT or SIGHUP has it drain. A second SIGTERM or SIGINT
// cuts off the calls that are left, and a third ends the process at once. For example, with "timeout 10 hello run" SIGTERM comes twice
// within microseconds, which is the first wish alone. SIGHUP is never a second wish: a terminal that closes, and systemd with SendSIGHUP=,
// send it beside another; and a SIGHUP that was ignored when the process started (nohup) stays so.
type wishes struct {
	drain   context.Context // ends with the first wish
	cut     context.Context // ends with the second
	reload  chan struct{}   // of one: a SIGHUP, if it has a meaning
	exit    func(int)
	drained context.CancelCauseFunc
	cutOff  context.CancelCauseFunc
	signals chan os.Signal
	done    chan struct{}
	once    sync.Once

	mu    sync.Mutex
	first time.Time // of the drain; zero before
	count int
}

// heed begins to take signals. reloads says that SIGHUP has a meaning of its own; held says that signals mean nothing before [wishes.begin]:
// another process, which gets the signals too, decides about the end of this one.
func heed(reloads, held bool) *wishes {
	w := newWishes()
	take := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		take = append(take, syscall.SIGHUP)
	}
	signal.Notify(w.signals, take...)
	go func() {
		for {
			select {
			case s := <-w.signals:
				w.take(s, reloads, held, time.Now())
			case <-w.done:
				return
			}
		}
	}()
	return w
}

func newWishes() *wishes {
	w := &wishes{reload: make(chan struct{}, 1), exit: os.Exit, signals: make(chan os.Signal, 8), done: make(chan struct{})}
	w.drain, w.drained = context.WithCancelCause(context.Background())
	w.cut, w.cutOff = context.WithCancelCause(context.Background())
	return w
}

func (w *wishes) take(s os.Signal, reloads, held bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case s == syscall.SIGHUP && reloads:
		select {
		case w.reload <- struct{}{}:
		default: // one is on its way
		}
	case w.first.IsZero() && held:
	case w.first.IsZero():
		w.first = now
		w.drained(fmt.Errorf("signal: %s", s))
	case s == syscall.SIGHUP || now.Sub(w.first) < burstTime:
	case w.count == 0:
		w.count++
		w.cutOff(fmt.Errorf("a second signal: %s", s))
	default:
		w.exit(1)
	}
}

// begin says that the process ends now, for a reason of its own.
func (w *wishes) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first.IsZero() {
		w.first = time.Now()
	}
}

// stop gives the signals back.
func (w *wishes) stop() {
	w.once.Do(func() {
		signal.Stop(w.signals)
		close(w.done)
	})
}
