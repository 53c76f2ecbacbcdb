package durable_test

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer is a line of a client about one call.
type answer struct {
	client     string
	id         string
	begin, end time.Time
	kind       string // "" for an answer, else how the call failed
	text       string
}

// answers are the calls of all clients until now. Files only grow, and each is read from the place to which it was read before.
func (m *machine) answers() []answer {
	m.t.Helper()
	for _, file := range []string{"answered.", "failed."} {
		paths, err := filepath.Glob(filepath.Join(m.ledger, file+"*"))
		if err != nil {
			m.t.Fatal(err)
		}
		for _, path := range paths {
			client := strings.TrimPrefix(filepath.Base(path), file)
			for line := range strings.Lines(m.unread(path)) {
				f := strings.SplitN(strings.TrimSpace(line), " ", 5)
				if len(f) < 3 {
					m.t.Fatalf("%s has the line %q", path, line)
				}
				a := answer{client: client, id: f[0], begin: nanoseconds(f[1]), end: nanoseconds(f[2])}
				if len(f) > 3 {
					a.kind = f[3]
				}
				if len(f) > 4 {
					a.text = f[4]
				}
				m.seen = append(m.seen, a)
			}
		}
	}
	return m.seen
}

// unread are the whole lines of a file that were not read yet.
func (m *machine) unread(path string) string {
	f, err := os.Open(path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, m.offsets[path], 1<<40))
	if err != nil {
		m.t.Fatal(err)
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	m.offsets[path] += int64(len(b))
	return string(b)
}

func nanoseconds(text string) time.Time {
	n, _ := strconv.ParseInt(text, 10, 64)
	return time.Unix(0, n)
}

// lines are the lines of a file of the ledger, which may not exist yet.
func (m *machine) lines(file string) []string {
	b, _ := os.ReadFile(filepath.Join(m.ledger, file))
	return strings.Fields(string(b))
}

// check compares the answers with the executed calls: every answered call has run, no call ran twice, no replica executed more calls than it may, and no
// call hung.
func (m *machine) check() {
	m.t.Helper()
	ran := map[string]int{}
	for _, id := range m.lines("ran") {
		ran[id]++
	}
	for _, id := range slices.Sorted(maps.Keys(ran)) {
		if ran[id] > 1 {
			m.t.Errorf("%s ran %d times", id, ran[id])
		}
	}
	for _, id := range m.lines("over") {
		m.t.Errorf("%s ran in a replica that executed %d calls already", id, slots)
	}
	answered := 0
	for _, a := range m.answers() {
		switch {
		case a.kind == "" && ran[a.id] == 0:
			m.t.Errorf("%s was answered and has not run", a.id)
		case a.kind == "":
			answered++
		case a.kind == "late", a.kind == "TimeoutError", a.kind == "deadline_exceeded", a.end.Sub(a.begin) >= clientPatience:
			m.t.Errorf("%s hung for %s: %s %s", a.id, a.end.Sub(a.begin), a.kind, a.text)
		}
	}
	if answered < 100 {
		m.t.Errorf("only %d calls were answered: this test shows little", answered)
	}
	m.t.Logf("%d calls were answered, %d ran", answered, len(ran))
}
