package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
)

// The sizes of the picture in pixels.
const (
	pictureWidth = 760
	labelWidth   = 190
	barHeight    = 16
	barGap       = 4
	groupGap     = 18
	topHeight    = 60
	barsWidth    = pictureWidth - labelWidth - 110
)

// pictured are the groups of bars: a title, and the row that has them.
var pictured = []struct{ title, key string }{
	{"handle, 100 B, 64 in flight", "handle/100 B, 64 in flight"},
	{"handle, 1 MB", "handle/1 MB, 1 in flight"},
	{"stream, 10 at once", "stream/10 of 1000 items"},
	{"HTTP, 64 connections", "http/noop, 64 connections"},
	{"HTTP, one hop, 64", "http/one hop, 64 connections"},
	{"FastAPI, 64 connections", "http/FastAPI, 64 connections"},
}

// drawn are the systems of the picture. The class of a bar is the name of its system.
var drawn = []string{helveSystem, rayBest, rayDefault}

// The head of the picture. Its colors are variables, which the site sets to those of its light or dark pages.
const pictureHead = `<svg xmlns="http://www.w3.org/2000/svg" class="helve" viewBox="0 0 %d %d" role="img" aria-labelledby="figures-title" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif" font-size="12">
<title id="figures-title">Requests per second of Helve and Ray Serve, on a logarithmic scale</title>
<style>
svg.helve { --ink: #1c2733; --soft: #5a6876; --line: #8896a4; --paper: #ffffff; --call: #0b5c8a; --share: #a55a00; background: var(--paper); }
@media (prefers-color-scheme: dark) {
svg.helve { --ink: #e4e9ee; --soft: #a3b0bc; --line: #70808f; --paper: #131416; --call: #6cb8e6; --share: #eba757; }
}
.helve text { fill: var(--ink); }
.helve .soft { fill: var(--soft); }
.helve .grid { stroke: var(--line); stroke-opacity: 0.4; }
.helve .bar-helve { fill: var(--call); }
.helve .bar-ray-best { fill: var(--share); }
.helve .bar-ray-default { fill: var(--share); fill-opacity: 0.5; }
</style>
`

// picture draws rates per second as bars on a logarithmic scale.
func picture(all []figures, _ []byte) ([]byte, error) {
	byKey := map[string]figures{}
	for _, f := range all {
		byKey[f.key()] = f
	}
	titles := map[string]string{}
	for _, s := range systems("") {
		titles[s.name] = s.title
	}
	low, high := math.Inf(1), 0.0
	for _, p := range pictured {
		for _, name := range drawn {
			if v := byKey[p.key].Sides[name][rate]; v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if high == 0 {
		low, high = 1, 10
	}
	from, to := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	x := func(v float64) float64 { return barsWidth * (math.Log10(v) - from) / (to - from) }
	height := topHeight + len(pictured)*(len(drawn)*(barHeight+barGap)+groupGap) + 24
	var out bytes.Buffer
	fmt.Fprintf(&out, pictureHead, pictureWidth, height)
	for i, name := range drawn {
		left := labelWidth + i*170
		fmt.Fprintf(&out, `<rect x="%d" y="14" width="12" height="12" class="bar-%s"/><text x="%d" y="24">%s</text>`+"\n", left, name, left+18, escape(titles[name]))
	}
	for d := from; d <= to; d++ {
		left := labelWidth + x(math.Pow(10, d))
		fmt.Fprintf(&out, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" class="grid"/><text x="%.1f" y="%d" class="soft" text-anchor="middle">%s</text>`+"\n",
			left, topHeight-10, left, height-24, left, topHeight-14, text(rate, math.Pow(10, d)))
	}
	y := topHeight
	for _, p := range pictured {
		fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-10, y+barHeight+barGap+8, escape(p.title))
		for _, name := range drawn {
			if v := byKey[p.key].Sides[name][rate]; v > 0 {
				fmt.Fprintf(&out, `<rect x="%d" y="%d" width="%.1f" height="%d" class="bar-%s"/><text x="%.1f" y="%d">%s</text>`+"\n",
					labelWidth, y, max(x(v), 1), barHeight, name, labelWidth+max(x(v), 1)+6, y+barHeight-4, text(rate, v))
			}
			y += barHeight + barGap
		}
		y += groupGap
	}
	fmt.Fprintf(&out, `<text x="%d" y="%d" class="soft">calls, items or requests a second; the scale is logarithmic</text>`+"\n</svg>\n", labelWidth, height-8)
	return out.Bytes(), nil
}

func escape(s string) string {
	var out bytes.Buffer
	xml.EscapeText(&out, []byte(s)) //nolint:errcheck // a buffer takes everything
	return out.String()
}
