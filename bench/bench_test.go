package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		m     measurement
		ratio float64
		busy  bool
		want  string
	}{
		{"no bar", measurement{}, 7, true, "info"},
		{"at most, met", measurement{bar: 1}, 1, true, "ok"},
		{"at most, missed", measurement{bar: 1}, 1.01, false, "short"},
		{"at most, missed on a busy machine", measurement{bar: 1}, 1.01, true, "busy"},
		{"at least, met", measurement{bar: 3, atLeast: true}, 3, false, "ok"},
		{"at least, missed", measurement{bar: 3, atLeast: true}, 2.99, false, "short"},
		{"at least, missed on a busy machine", measurement{bar: 3, atLeast: true}, 2.99, true, "busy"},
		{"a size is not excused", measurement{bar: 1, exact: true}, 2, true, "short"},
		{"no number", measurement{bar: 1}, math.NaN(), false, "short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.m.verdict(c.ratio, c.busy); got != c.want {
				t.Errorf("verdict %q, want %q", got, c.want)
			}
		})
	}
}

// A row is excused by the machine's speed before it or after it, not at another row.
func TestTableBusy(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	scalings := []float64{2, 1.9, 1.2, 1.8, 1.9}
	tab := newTable(&out, func() float64 { v := scalings[0]; scalings = scalings[1:]; return v })
	for range 4 {
		err := tab.measure(measurement{name: "slow", bar: 1, measure: func() (result, error) { return result{"2 s", "1 s", 2}, nil }})
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if f := strings.Fields(line); f[0] == "slow" {
			got = append(got, f[len(f)-1])
		}
	}
	if want := "short busy busy short"; strings.Join(got, " ") != want {
		t.Errorf("verdicts %v, want %s\n%s", got, want, out.String())
	}
}

func TestRunGroupSelects(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{".": "a b end", "g/a": "a end", "^g/b$": "b end", "none": "end"} {
		var done []string
		plan := func(b *bench) []measurement {
			b.onEnd(func() { done = append(done, "end") })
			var all []measurement
			for _, name := range []string{"a", "b"} {
				all = append(all, measurement{name: name, measure: func() (result, error) {
					done = append(done, name)
					return result{}, nil
				}})
			}
			return all
		}
		tab := newTable(io.Discard, func() float64 { return 2 })
		if err := runGroup(t.Context(), settings{}, tab, "g", regexp.MustCompile(pattern), plan); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(done, " "); got != want {
			t.Errorf("-run %q did %q, want %q", pattern, got, want)
		}
	}
}

// A row whose peer is not installed says so, and the rows after it are measured.
func TestTableMissing(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	tab := newTable(&out, func() float64 { return 2 })
	for _, err := range []error{fmt.Errorf("peer: %w", missingError("mosec")), nil} {
		if err := tab.measure(measurement{name: "row", bar: 1, measure: func() (result, error) { return result{"2 s", "1 s", 2}, err }}); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if n := len(lines); n < 2 || !strings.HasSuffix(lines[n-2], "missing: mosec") || !strings.HasSuffix(lines[n-1], "short") {
		t.Errorf("printed %q, want a row that misses mosec, and one that is short", lines)
	}
}

// When a row fails, its processes are ended, the last first.
func TestRunGroupEnds(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var ended []int
	plan := func(b *bench) []measurement {
		return []measurement{{name: "a", measure: func() (result, error) {
			for i := range 3 {
				b.onEnd(func() { ended = append(ended, i) })
			}
			return result{}, broken
		}}}
	}
	tab := newTable(io.Discard, func() float64 { return 2 })
	err := runGroup(t.Context(), settings{}, tab, "g", regexp.MustCompile("."), plan)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "g/a") {
		t.Errorf("error %v, want the row's with its name", err)
	}
	if len(ended) != 3 || ended[0] != 2 || ended[2] != 0 {
		t.Errorf("ended %v, want 2 1 0", ended)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	v := []int{5, 1, 4, 2, 3}
	for q, want := range map[float64]int{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(v, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if v[0] != 5 {
		t.Error("quantile sorted its argument")
	}
	if got := median([]float64{}); got != 0 {
		t.Errorf("median of nothing is %v", got)
	}
}

func TestReadResponse(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nworld"
	lower := strings.ReplaceAll(ok, "Content-", "content-")
	for name, c := range map[string]struct {
		in   string
		fail bool
	}{
		"two":        {in: ok + ok},
		"lower case": {in: lower + lower},
		"error":      {in: "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", fail: true},
		"no length":  {in: "HTTP/1.1 200 OK\r\n\r\n", fail: true},
		"short body": {in: ok[:len(ok)-1], fail: true},
		"nothing":    {fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := bufio.NewReader(strings.NewReader(c.in))
			err := readResponse(r, "HTTP/1.1 200")
			if (err != nil) != c.fail {
				t.Fatalf("error %v", err)
			}
			if c.fail {
				return
			}
			if err := readResponse(r, "HTTP/1.1 200"); err != nil {
				t.Fatalf("second response: %v", err)
			}
			if r.Buffered() != 0 {
				t.Errorf("%d bytes left", r.Buffered())
			}
		})
	}
}

func frame(id uint64, body string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	b = binary.LittleEndian.AppendUint32(b, 1)
	return append(binary.LittleEndian.AppendUint64(b, id), body...)
}

// Frames arrive whole and renamed, however they were cut, and the relay ends with its source.
func TestRelay(t *testing.T) {
	t.Parallel()
	from, source := net.Pipe()
	sink, to := net.Pipe()
	go func() {
		relay(from, to, func(id uint64) uint64 { return id + 100 })
		to.Close()
	}()
	go func() {
		in := append(append(frame(1, "one"), frame(2, "")...), frame(3, "three")...)
		for _, cut := range [][]byte{in[:5], in[5:18], in[18:40], in[40:]} {
			source.Write(cut)
		}
		source.Close()
	}()
	got, err := io.ReadAll(sink)
	if err != nil {
		t.Fatal(err)
	}
	want := append(append(frame(101, "one"), frame(102, "")...), frame(103, "three")...)
	if string(got) != string(want) {
		t.Errorf("relayed %q, want %q", got, want)
	}
}

// A frame that does not fit ends the relay, which would otherwise read nothing for ever.
func TestRelayTooLarge(t *testing.T) {
	t.Parallel()
	head := binary.LittleEndian.AppendUint32(nil, 1<<20)
	in := io.MultiReader(strings.NewReader(string(head)), endless{})
	relay(in, io.Discard, func(uint64) uint64 { t.Error("a frame was complete"); return 0 })
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestTreeOfThisProcess(t *testing.T) {
	t.Parallel()
	if mb, err := treePSS(os.Getpid()); err != nil || mb <= 0 {
		t.Errorf("PSS %v MB, %v", mb, err)
	}
	if _, err := treeCPU(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestTreeCountsWhatIsThere(t *testing.T) {
	t.Parallel()
	const none = 1 << 30 // above the largest pid of Linux
	if mb, err := treePSS(none); mb != 0 || err != nil {
		t.Errorf("a process that is gone has %v MB, %v", mb, err)
	}
}
