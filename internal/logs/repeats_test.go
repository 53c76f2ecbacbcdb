package logs

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRepeats: the lines over the limit are left out and counted, in each second anew; lines of other requests, texts and levels pass.
func TestRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said []string
		r := NewRepeats(func(rec *Record) { said = append(said, LevelName(rec.Level)+" "+rec.From.Replica+" "+rec.Text) })
		line := func(n int, rec Record) (passed int) {
			for range n {
				if r.Pass(&rec) {
					passed++
				}
			}
			return passed
		}
		from := Writer{App: "a", Deployment: "D", Replica: "D#1"}
		for _, c := range []struct {
			n, want int
			rec     Record
		}{
			{5000, repeatsMost, Record{From: from, Level: slog.LevelWarn, Text: "retry\nagain"}},
			{repeatsMost, repeatsMost, Record{From: from, Text: "fine"}},
			{50, 50, Record{From: from, Level: slog.LevelError, Text: "retry\nagain"}},
			{50, 50, Record{From: from, Level: slog.LevelWarn, Text: "retry\nagain", Request: "r-1"}},
		} {
			if got := line(c.n, c.rec); got != c.want {
				t.Errorf("%d of %d lines %+v pass, want %d", got, c.n, c.rec, c.want)
			}
		}
		time.Sleep(repeatsWindow)
		synctest.Wait()
		if want := `WARN D#1 the line "retry..." came 5000 times within 1s, and 4900 of them were left out`; strings.Join(said, "; ") != want {
			t.Errorf("said %q, want %q", said, want)
		}
		if got := line(1, Record{From: from, Level: slog.LevelWarn, Text: "retry\nagain"}); got != 1 {
			t.Error("a line of the next second does not pass")
		}
		time.Sleep(2 * repeatsWindow)
		for i := range 2 * repeatsKeys { // more different lines than are counted
			if !r.Pass(&Record{From: from, Text: fmt.Sprint(i)}) {
				t.Fatalf("line %d does not pass", i)
			}
		}
	})
}
