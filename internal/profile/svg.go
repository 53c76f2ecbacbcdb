package profile

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"html"
	"maps"
	"slices"
	"unicode/utf8"
)

// Measures of a flame graph, in pixels.
const (
	svgWidth    = 1200.0
	svgMargin   = 10.0
	svgRow      = 17
	svgHead     = 44
	svgFoot     = 14
	svgBaseline = 12  // of the text in its row
	svgNarrow   = 0.3 // a narrower box is not drawn
	svgLetter   = 6.6 // of the font
	svgLetters  = 3   // a shorter text is not drawn
	svgDeepest  = 400 // rows; boxes above are not drawn
	percent     = 100
)

// node is a box of a flame graph: a function with its callers.
type node struct {
	name     string
	value    int64
	children map[string]*node
}

func (n *node) child(name string) *node {
	c := n.children[name]
	if c == nil {
		c = &node{name: name, children: map[string]*node{}}
		n.children[name] = c
	}
	return c
}

func (n *node) depth() int {
	deepest := 0
	for _, c := range n.children {
		deepest = max(deepest, c.depth())
	}
	return min(deepest+1, svgDeepest)
}

// SVG draws a flame graph: a box for each function, as wide as its share of the shown value, above its caller. The width has no order in time: boxes of one caller are in the
// order of their names. The drawing has no script; a box shows its name and value when the pointer rests on it.
func (p *Profile) SVG(title string) []byte {
	root := &node{name: "all", children: map[string]*node{}}
	for i := range p.Samples {
		s := &p.Samples[i]
		v := p.value(s)
		if v <= 0 {
			continue
		}
		at := root
		at.value += v
		for _, name := range p.path(s) {
			at = at.child(name)
			at.value += v
		}
	}
	g := &graph{unit: p.shown(), total: root.value, height: svgHead + svgFoot + root.depth()*svgRow}
	fmt.Fprintf(&g.b, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %.0f %d" font-family="monospace" font-size="11">`+"\n",
		svgWidth, g.height, svgWidth, g.height)
	fmt.Fprintf(&g.b, `<style>rect{stroke:#fff;stroke-width:.5}g:hover>rect{stroke:#000}text{pointer-events:none}</style><rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	fmt.Fprintf(&g.b, `<text x="%.0f" y="18" font-size="14">%s</text>`+"\n", svgMargin, html.EscapeString(oneLine(title)))
	about := "nothing was found: " + g.unit.Kind + " 0"
	if g.total > 0 {
		about = fmt.Sprintf("%s: %s", g.unit.Kind, Amount(g.total, g.unit))
	}
	if p.Duration > 0 {
		about += fmt.Sprintf(" in %.1f s", p.Duration.Seconds())
	}
	fmt.Fprintf(&g.b, `<text x="%.0f" y="34" fill="#555">%s</text>`+"\n", svgMargin, html.EscapeString(about))
	if g.total > 0 {
		g.draw(root, svgMargin, 0)
	}
	g.b.WriteString("</svg>\n")
	return g.b.Bytes()
}

// graph is a flame graph that is drawn.
type graph struct {
	b      bytes.Buffer
	unit   Type
	total  int64
	height int
}

// draw draws a box with its left edge at x, and the boxes above it.
func (g *graph) draw(n *node, x float64, row int) {
	width := float64(n.value) / float64(g.total) * (svgWidth - 2*svgMargin)
	if width < svgNarrow || row >= svgDeepest {
		return
	}
	y := g.height - svgFoot - (row+1)*svgRow
	fmt.Fprintf(&g.b, `<g><title>%s (%s, %.1f%%)</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`,
		html.EscapeString(n.name), html.EscapeString(Amount(n.value, g.unit)), float64(n.value)/float64(g.total)*percent, x, y, width, svgRow-1, colour(n.name))
	if letters := int(width / svgLetter); letters >= svgLetters {
		fmt.Fprintf(&g.b, `<text x="%.1f" y="%d">%s</text>`, x+2, y+svgBaseline, html.EscapeString(short(n.name, letters)))
	}
	g.b.WriteString("</g>\n")
	children := slices.SortedFunc(maps.Values(n.children), func(a, b *node) int { return cmp.Compare(a.name, b.name) })
	for _, c := range children {
		g.draw(c, x, row+1)
		x += float64(c.value) / float64(g.total) * (svgWidth - 2*svgMargin)
	}
}

// short is a name with at most so many letters. The end of a name says more than its begin, which is that of its package.
func short(name string, letters int) string {
	if utf8.RuneCountInString(name) <= letters {
		return name
	}
	runes := []rune(name)
	return ".." + string(runes[len(runes)-letters+2:])
}

// colour is a warm colour that a function has in all drawings.
func colour(name string) string {
	h := fnv.New32a()
	h.Write([]byte(name)) //nolint:errcheck // it takes all
	n := h.Sum32()
	return fmt.Sprintf("rgb(%d,%d,%d)", 205+n%50, 90+n>>8%120, 40+n>>16%50) //nolint:mnd // red, green, blue
}
