package updates

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// item is a [helvetype.Update] whose parts are encoded already.
type item struct {
	At           time.Time          `json:"at"`
	Whole        bool               `json:"whole,omitempty"`
	Node         json.RawMessage    `json:"node,omitempty"`
	Applications []json.RawMessage  `json:"applications,omitempty"`
	Deployments  []json.RawMessage  `json:"deployments,omitempty"`
	Replicas     []json.RawMessage  `json:"replicas,omitempty"`
	Edges        json.RawMessage    `json:"edges,omitempty"`
	Problems     json.RawMessage    `json:"problems,omitempty"`
	Figures      figures            `json:"figures,omitzero"`
	Gone         []helvetype.Object `json:"gone,omitempty"`
}

type figures struct {
	Node         json.RawMessage   `json:"node,omitempty"`
	Applications []json.RawMessage `json:"applications,omitempty"`
	Deployments  []json.RawMessage `json:"deployments,omitempty"`
	Replicas     []json.RawMessage `json:"replicas,omitempty"`
	Edges        []json.RawMessage `json:"edges,omitempty"`
}

// IsZero says that there is nothing.
func (f figures) IsZero() bool {
	return f.Node == nil && f.Applications == nil && f.Deployments == nil && f.Replicas == nil && f.Edges == nil
}

// empty says that nothing has changed.
func (i *item) empty() bool {
	return !i.Whole && i.Node == nil && i.Applications == nil && i.Deployments == nil && i.Replicas == nil && i.Edges == nil && i.Problems == nil && i.Figures.IsZero() && i.Gone == nil
}

// memory has the state of a reader: the objects and figures of the items before.
type memory struct {
	begun         bool
	node, figures json.RawMessage
	problems      told
	lists         [kinds]map[string]*kept
	turn          int
}

// kept is an object that the reader has.
type kept struct {
	is      helvetype.Object
	object  told
	figures []float64 // nil for none yet
	turn    int       // the last item whose state had the object
}

// next makes the item that leads a reader to a state. withFigures says that figures that have changed are in it; else they come later.
func (m *memory) next(s *state, of View, withFigures bool) *item {
	m.turn++
	out := &item{At: s.facts.At.UTC().Truncate(time.Millisecond), Whole: !m.begun}
	if out.Whole {
		m.begun, withFigures = true, true
		for k := range m.lists {
			m.lists[k] = map[string]*kept{}
		}
	}
	changed := func(before *json.RawMessage, now json.RawMessage) json.RawMessage {
		if bytes.Equal(*before, now) {
			return nil
		}
		*before = now
		return now
	}
	out.Node = changed(&m.node, s.node)
	if m.problems.tell(s.problems, s.calm, s.facts.At) {
		out.Problems = s.problems
	}
	if withFigures {
		out.Figures.Node = changed(&m.figures, s.figures)
	}
	out.Applications, out.Figures.Applications = m.list(out, s, s.list(list{kind: applications}), applications, withFigures)
	if of.App != "" {
		out.Deployments, out.Figures.Deployments = m.list(out, s, s.list(list{deployments, of.App, ""}), deployments, withFigures)
		all, blocks := m.list(out, s, s.list(list{edges, of.App, ""}), edges, withFigures)
		if out.Figures.Edges = blocks; all != nil {
			out.Edges = encode(all)
		}
	}
	if of.AllReplicas {
		out.Replicas, out.Figures.Replicas = m.list(out, s, s.list(list{kind: replicas}), replicas, withFigures)
	} else if of.Deployment != "" {
		all := s.list(list{replicas, of.App, of.Deployment})
		if of.Replica != "" {
			all = slices.DeleteFunc(slices.Clone(all), func(e entry) bool { return e.name != of.Replica })
		}
		out.Replicas, out.Figures.Replicas = m.list(out, s, all, replicas, withFigures)
	}
	return out
}

// list gives the objects of a list that have changed, and the figures; objects that are gone go to the item. Of edges it gives all, if there is one more or less.
func (m *memory) list(to *item, s *state, now []entry, of kind, withFigures bool) (objects, blocks []json.RawMessage) {
	had, changed := m.lists[of], false
	byColumns := map[uint][]*entry{} // by the set of columns that have changed, a bit for each
	for i := range now {
		e := &now[i]
		k := had[e.name]
		if k == nil {
			k = &kept{is: e.is}
			had[e.name] = k
		}
		if k.object.tell(e.object, e.calm, s.facts.At) {
			changed = true
			if of != edges {
				objects = append(objects, e.object)
			}
		}
		k.turn = m.turn
		if set := differ(k.figures, e.figures); set != 0 && (withFigures || k.figures == nil) {
			byColumns[set] = append(byColumns[set], e)
			k.figures = e.figures
		}
	}
	for _, name := range slices.Sorted(maps.Keys(had)) {
		k := had[name]
		if k.turn == m.turn {
			continue
		}
		delete(had, name)
		changed = true
		if of != edges {
			to.Gone = append(to.Gone, k.is)
		}
	}
	if of == edges && changed {
		objects = []json.RawMessage{}
		for i := range now {
			objects = append(objects, now[i].object)
		}
	}
	for _, set := range slices.Sorted(maps.Keys(byColumns)) {
		blocks = append(blocks, block(columns[of], set, byColumns[set]))
	}
	return objects, blocks
}

// differ is the set of the numbers that differ.
func differ(x, y []float64) (set uint) {
	for i, v := range y {
		if x == nil || x[i] != v && !(math.IsNaN(x[i]) && math.IsNaN(v)) {
			set |= 1 << i
		}
	}
	return set
}

// block is the [helvetype.Figures] of objects and a set of columns.
func block(columns []string, set uint, of []*entry) json.RawMessage {
	b := append([]byte(nil), `{"names":[`...)
	for i, e := range of {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, encode(e.name)...)
	}
	b = append(b, `],"columns":{`...)
	first := true
	for c, name := range columns {
		if set&(1<<c) == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(strconv.AppendQuote(b, name), ':', '[')
		for i, e := range of {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendNumber(b, e.figures[c])
		}
		b = append(b, ']')
	}
	return append(b, "}}"...)
}

// appendNumber appends a number of JSON; null for a number that is not known.
func appendNumber(b []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}
