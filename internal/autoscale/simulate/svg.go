package simulate

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Panel is one drawing of a picture: the replicas of both autoscalers, and of the optimum, over time.
type Panel struct {
	Title           string
	Ours, Reference []Sample
}

// Sizes of pictures in pixels.
const (
	panelWidth  = 370
	panelHeight = 170
	panelTop    = 48 // of the first row: the legend is above it
	panelLeft   = 34
	plotWidth   = panelWidth - panelLeft - 12
	plotHeight  = 112
	points      = 160 // of a line, at most
)

// The head of a picture. Its colors are variables, which the site sets to the colors of its light or dark pages.
const pictureHead = `<svg xmlns="http://www.w3.org/2000/svg" class="helve" viewBox="0 0 %d %d" role="img" aria-labelledby="%[3]s-title" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif" font-size="12">
<title id="%[3]s-title">%[4]s</title>
<style>
svg.helve { --ink: #1c2733; --soft: #5a6876; --line: #8896a4; --paper: #ffffff; --call: #0b5c8a; --share: #a55a00; background: var(--paper); }
@media (prefers-color-scheme: dark) {
svg.helve { --ink: #e4e9ee; --soft: #a3b0bc; --line: #70808f; --paper: #131416; --call: #6cb8e6; --share: #eba757; }
}
.helve text { fill: var(--ink); }
.helve .soft { fill: var(--soft); }
.helve .grid { stroke: var(--line); stroke-opacity: 0.4; }
.helve .optimum { fill: var(--line); fill-opacity: 0.3; }
.helve .ours { fill: none; stroke: var(--call); stroke-width: 2; }
.helve .reference { fill: none; stroke: var(--share); stroke-width: 1.5; stroke-dasharray: 4 2; }
</style>
`

// SVG draws panels in columns. The id is unique among the pictures of a page. Lines that are far above the others leave their panel at its top.
func SVG(id, title string, panels []Panel, columns int) []byte {
	rows := (len(panels) + columns - 1) / columns
	var b strings.Builder
	fmt.Fprintf(&b, pictureHead, columns*panelWidth, panelTop+rows*panelHeight, html.EscapeString(id), html.EscapeString(title))
	b.WriteString(`<rect x="34" y="8" width="20" height="12" class="optimum"/><text x="60" y="18">replicas of the optimum</text>` + "\n")
	b.WriteString(`<line x1="212" y1="14" x2="236" y2="14" class="ours"/><text x="242" y="18">Helve</text>` + "\n")
	b.WriteString(`<line x1="290" y1="14" x2="314" y2="14" class="reference"/><text x="320" y="18">Ray Serve</text>` + "\n")
	for i, p := range panels {
		panel(&b, fmt.Sprintf("%s-%d", html.EscapeString(id), i), i%columns*panelWidth+panelLeft, panelTop+i/columns*panelHeight, p)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func panel(b *strings.Builder, id string, x, y int, p Panel) {
	most := 1.0
	for _, s := range p.Ours {
		most = max(most, float64(s.Optimum), s.Ready)
	}
	all := most
	for _, s := range p.Reference {
		all = max(all, s.Ready)
	}
	top := nice(min(all, 2*most))
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", x, y-4, html.EscapeString(p.Title))
	fmt.Fprintf(b, `<clipPath id="%s"><rect x="%d" y="%d" width="%d" height="%d"/></clipPath>`+"\n", id, x, y, plotWidth, plotHeight)
	for _, part := range [...]float64{0, 0.5, 1} {
		at := float64(y) + plotHeight*(1-part)
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" class="grid"/><text x="%d" y="%.1f" class="soft" text-anchor="end">%g</text>`+"\n",
			x, at, x+plotWidth, at, x-4, at+4, top*part)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" class="soft">0</text><text x="%d" y="%d" class="soft" text-anchor="end">%s</text>`+"\n",
		x, y+plotHeight+14, x+plotWidth, y+plotHeight+14, minutes(len(p.Ours)))
	line := func(samples []Sample, of func(Sample) float64) string {
		var path strings.Builder
		last := math.NaN()
		for i := range points {
			from, to := i*len(samples)/points, (i+1)*len(samples)/points
			if from >= to {
				continue
			}
			v := 0.0
			for _, s := range samples[from:to] {
				v = max(v, of(s))
			}
			at := float64(x) + plotWidth*float64(from)/float64(len(samples))
			height := float64(y) + plotHeight*(1-v/top)
			switch {
			case math.IsNaN(last):
				fmt.Fprintf(&path, "M%.1f %.1f", at, height)
			case height != last:
				fmt.Fprintf(&path, "H%.1fV%.1f", at, height)
			}
			last = height
		}
		fmt.Fprintf(&path, "H%d", x+plotWidth)
		return path.String()
	}
	fmt.Fprintf(b, `<path clip-path="url(#%s)" class="optimum" d="%sV%dH%dZ"/>`+"\n", id, line(p.Ours, func(s Sample) float64 { return float64(s.Optimum) }), y+plotHeight, x)
	ready := func(s Sample) float64 { return math.Round(s.Ready) }
	fmt.Fprintf(b, `<path clip-path="url(#%s)" class="reference" d="%s"/>`+"\n", id, line(p.Reference, ready))
	fmt.Fprintf(b, `<path clip-path="url(#%s)" class="ours" d="%s"/>`+"\n", id, line(p.Ours, ready))
}

// nice is the next number of 1, 2, 4, 6 or 8 times a power of ten.
func nice(x float64) float64 {
	for unit := 1.0; ; unit *= 10 {
		for _, n := range [...]float64{1, 2, 4, 6, 8} {
			if n*unit >= x {
				return n * unit
			}
		}
	}
}

func minutes(n int) string {
	if n < 180 {
		return fmt.Sprintf("%d s", n)
	}
	return fmt.Sprintf("%.0f min", float64(n)/60)
}
