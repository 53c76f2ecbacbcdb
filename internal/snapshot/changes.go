package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/helve-serve/helve/internal/roster"
)

// ChangesName is the name of the file with the changes since [Name] was written. It has a line for each: a checksum and a JSON object. The first line names the
// file that the changes belong to ([Snapshot.Changes]); changes of another one are of no use. A line that was not written to its end, and
// all lines after it, do not count: for example, the node was killed, or the disk was full.
const ChangesName = Name + ".changes"

// change is one line. One field is set, or more.
type change struct {
	Of     string          `json:"of,omitempty"` // of the first line
	LastID uint64          `json:"next_id,omitempty"`
	App    json.RawMessage `json:"app,omitempty"` // an Application
	NoApp  string          `json:"no_app,omitempty"`
	Worker *roster.Worker  `json:"worker,omitempty"`
	NoWork string          `json:"no_worker,omitempty"`
}

// line is the change as the file has it.
func (c change) line() ([]byte, error) {
	b, err := json.Marshal(c)
	return fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(b), b), err
}

// apply makes the changes of a file to the snapshot that they belong to.
func (s *Snapshot) apply(text []byte) {
	of := s.Changes
	for first := true; ; first = false {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		sum, b, _ := bytes.Cut(line, []byte(" "))
		var c change
		if !whole || string(sum) != fmt.Sprintf("%08x", crc32.ChecksumIEEE(b)) || json.Unmarshal(b, &c) != nil || first && (of == "" || c.Of != of) {
			return
		}
		if !s.change(c) {
			return
		}
		text = rest
	}
}

// change makes one change. It returns false for one that is malformed.
func (s *Snapshot) change(c change) bool {
	s.LastID = max(s.LastID, c.LastID)
	if c.App != nil {
		var a Application
		if json.Unmarshal(c.App, &a) != nil {
			return false
		}
		s.Applications = replace(s.Applications, a.Name, func(a Application) string { return a.Name }, a)
	}
	if c.NoApp != "" {
		s.Applications = replace(s.Applications, c.NoApp, func(a Application) string { return a.Name })
	}
	if w := c.Worker; w != nil {
		if w.Check() != nil {
			return false
		}
		s.Workers = replace(s.Workers, w.ID, func(w roster.Worker) string { return w.ID }, *w)
	}
	if c.NoWork != "" {
		s.Workers = replace(s.Workers, c.NoWork, func(w roster.Worker) string { return w.ID })
	}
	return true
}

// replace puts others in the place of the element with a name. The elements are sorted by name.
func replace[T any](all []T, name string, of func(T) string, with ...T) []T {
	i, there := slices.BinarySearchFunc(all, name, func(t T, name string) int { return strings.Compare(of(t), name) })
	end := i
	if there {
		end++
	}
	return slices.Replace(all, i, end, with...)
}

// content is what the files have, encoded as far as it is large.
type content struct {
	lastID  uint64
	apps    map[string]json.RawMessage
	workers map[string]roster.Worker
}

// update takes over the state as it is now, and gives the changes.
func (c *content) update(now State) (all []change, err error) {
	if c.apps == nil {
		c.apps, c.workers = map[string]json.RawMessage{}, map[string]roster.Worker{}
	}
	if now.LastID != c.lastID {
		c.lastID = now.LastID
		all = append(all, change{LastID: now.LastID})
	}
	for _, a := range now.Applications {
		b, err := json.Marshal(a)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(b, c.apps[a.Name]) {
			c.apps[a.Name] = b
			all = append(all, change{App: b})
		}
	}
	names := map[string]bool{}
	for _, name := range now.Names {
		names[name] = true
	}
	for name := range c.apps {
		if !names[name] {
			delete(c.apps, name)
			all = append(all, change{NoApp: name})
		}
	}
	ids := map[string]bool{}
	for _, w := range now.Workers {
		ids[w.ID] = true
		if !reflect.DeepEqual(w, c.workers[w.ID]) {
			c.workers[w.ID] = w
			all = append(all, change{Worker: &w})
		}
	}
	for id := range c.workers {
		if !ids[id] {
			delete(c.workers, id)
			all = append(all, change{NoWork: id})
		}
	}
	return all, nil
}

// lines are the lines of changes.
func lines(all ...change) (text []byte, err error) {
	for _, c := range all {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		text = append(text, line...)
	}
	return text, nil
}

// create makes the file of changes that belong to a snapshot.
func create(dir, of string) (*os.File, error) {
	first, err := lines(change{Of: of})
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, ChangesName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(first); err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
