package logs

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"
)

// Limits of lines that are the same, within repeatsWindow.
const (
	repeatsWindow = time.Second
	repeatsMost   = 100  // lines that pass
	repeatsKeys   = 1024 // different lines that are counted; others pass
)

// Repeats leaves out lines of one writer that come again and again. For example, a loop prints "retry" 5,000 times in a second: the first 100 lines pass, and at the end
// of the second a record says that 4,900 were left out. Lines with another text, level, logger or request are others: a line that each request prints passes for each.
// The methods may be called from any goroutine.
type Repeats struct {
	emit func(*Record)
	seed maphash.Seed

	mu    sync.Mutex
	begin time.Time
	seen  map[uint64]int
	left  []repeated // lines of which some were left out in this window
}

// repeated is a line of which some were left out.
type repeated struct {
	key uint64
	of  Record
}

// NewRepeats makes the limit of one writer. emit gets the records that say how many lines were left out, on a goroutine of its own.
func NewRepeats(emit func(*Record)) *Repeats {
	return &Repeats{emit: emit, seed: maphash.MakeSeed(), seen: map[uint64]int{}}
}

// Pass says that a record is to be written. At the time of its own arrival a line counts, whatever time it states.
func (r *Repeats) Pass(rec *Record) bool {
	key := r.key(rec)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.begin) >= repeatsWindow && len(r.left) == 0 { // else the timer ends the window
		r.begin = now
		clear(r.seen)
	}
	n, known := r.seen[key]
	if !known && len(r.seen) >= repeatsKeys {
		return true
	}
	r.seen[key] = n + 1
	if n < repeatsMost {
		return true
	}
	if n == repeatsMost {
		if len(r.left) == 0 {
			time.AfterFunc(max(repeatsWindow-now.Sub(r.begin), 0), r.end)
		}
		r.left = append(r.left, repeated{key, *rec})
	}
	return false
}

// end ends a window in which lines were left out, and says so.
func (r *Repeats) end() {
	r.mu.Lock()
	left, seen := r.left, r.seen
	r.left, r.seen, r.begin = nil, map[uint64]int{}, time.Now()
	r.mu.Unlock()
	for _, l := range left {
		rec := l.of
		rec.Time, rec.Level, rec.Stream, rec.Attrs = time.Now(), max(rec.Level, slog.LevelInfo), "", nil
		rec.Text = fmt.Sprintf("the line %q came %d times within %s, and %d of them were left out", firstOf(rec.Text), seen[l.key], repeatsWindow, seen[l.key]-repeatsMost)
		r.emit(&rec)
	}
}

func (r *Repeats) key(rec *Record) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	for _, part := range []string{rec.From.App, rec.From.Deployment, rec.From.Replica, rec.Request, rec.Logger, rec.Stream, rec.Text} {
		h.WriteString(part) //nolint:errcheck // a hash does not fail
		h.WriteByte(0)      //nolint:errcheck // the same
	}
	return h.Sum64() + uint64(rec.Level)
}

// firstOf is the begin of a text of a line that was left out.
func firstOf(text string) string {
	const most = 160
	for i, c := range text {
		if c == '\n' || i >= most {
			return text[:i] + "..."
		}
	}
	return text
}
