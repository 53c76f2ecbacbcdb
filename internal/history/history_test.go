package history

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

func open(t *testing.T, dir string) (*File, []helvetype.Event) {
	t.Helper()
	f, events, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return f, events
}

func event(id uint64, message string) helvetype.Event {
	return helvetype.Event{ID: id, Object: helvetype.Object{Kind: helvetype.KindApplication, App: "a"}, To: "RUNNING", Message: message}
}

// TestHistory: the next node has the events, without the part of a line that a killed node has left.
func TestHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, events := open(t, dir)
	if len(events) != 0 {
		t.Errorf("%d events of no node", len(events))
	}
	f.Add(event(1, "one"))
	f.Add(event(2, "two\nlines"))
	f.Close()
	path := filepath.Join(dir, newer)
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(b, []byte(`{"id":3,"obj`)...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	f, events = open(t, dir)
	f.Add(event(4, "four"))
	f.Close()
	if want := []helvetype.Event{event(1, "one"), event(2, "two\nlines")}; !reflect.DeepEqual(events, want) {
		t.Errorf("got %+v, want %+v", events, want)
	}
	f, events = open(t, dir)
	f.Close()
	if len(events) != 3 || events[2].ID != 4 {
		t.Errorf("got %+v, want the events 1, 2 and 4", events)
	}
}

// TestRotation: the files have a bound, and the newest events are there.
func TestRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, _ := open(t, dir)
	const size, number = 50 << 10, 300 // 15 MB
	for id := range uint64(number) {
		if err := f.write([]helvetype.Event{event(id+1, strings.Repeat("x", size))}); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	f, events := open(t, dir)
	f.Close()
	total := int64(0)
	for _, name := range []string{older, newer} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		total += st.Size()
	}
	if total > 2*fileMax || len(events) < fileMax/size || events[len(events)-1].ID != number {
		t.Errorf("%d bytes, %d events", total, len(events))
	}
}

// FuzzRead: no file stops a node, and its events have rising ids.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"id":1}` + "\n" + `{"id":1}` + "\n{"))
	f.Add(bytes.Repeat([]byte("x"), lineMax+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), newer)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		events, err := read(path)
		if err != nil {
			t.Fatal(err)
		}
		last := uint64(0)
		for _, e := range rising(events) {
			if e.ID <= last {
				t.Errorf("event %d after %d", e.ID, last)
			}
			last = e.ID
		}
	})
}
