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

// bars of the picture: a title, and the row that has them.
var pictured = []struct{ title, key string }{
	{"handle, 100 B, 64 in flight", "handle/100 B, 64 in flight"},
	{"handle, 1 MB", "handle/1 MB, 1 in flight"},
	{"stream, 10 at once", "stream/10 of 1000 items"},
	{"HTTP, 64 connections", "http/noop, 64 connections"},
	{"HTTP, one hop, 64", "http/one hop, 64 connections"},
	{"FastAPI, 64 connections", "http/FastAPI, 64 connections"},
}

// colors of the systems, for light and dark backgrounds.
var colors = []struct{ system, color string }{{helveSystem, "#2a9d8f"}, {rayBest, "#e9a13b"}, {rayDefault, "#c8553d"}}

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
		for _, c := range colors {
			if v := byKey[p.key].Sides[c.system][rate]; v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if high == 0 {
		low, high = 1, 10
	}
	from, to := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	x := func(v float64) float64 { return barsWidth * (math.Log10(v) - from) / (to - from) }
	height := topHeight + len(pictured)*(len(colors)*(barHeight+barGap)+groupGap) + 24
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" font-family="sans-serif" font-size="12">
<title>Requests per second of Helve and Ray Serve, on a logarithmic scale</title>
<rect width="100%%" height="100%%" fill="#ffffff"/>
`, pictureWidth, height)
	for i, c := range colors {
		left := labelWidth + i*170
		fmt.Fprintf(&out, `<rect x="%d" y="14" width="12" height="12" fill="%s"/><text x="%d" y="24" fill="#222222">%s</text>`+"\n", left, c.color, left+18, escape(titles[c.system]))
	}
	for d := from; d <= to; d++ {
		left := labelWidth + x(math.Pow(10, d))
		fmt.Fprintf(&out, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#dddddd"/><text x="%.1f" y="%d" fill="#666666" text-anchor="middle">%s</text>`+"\n",
			left, topHeight-10, left, height-24, left, topHeight-14, text(rate, math.Pow(10, d)))
	}
	y := topHeight
	for _, p := range pictured {
		fmt.Fprintf(&out, `<text x="%d" y="%d" fill="#222222" text-anchor="end">%s</text>`+"\n", labelWidth-10, y+barHeight+barGap+8, escape(p.title))
		for _, c := range colors {
			if v := byKey[p.key].Sides[c.system][rate]; v > 0 {
				fmt.Fprintf(&out, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d" fill="#222222">%s</text>`+"\n",
					labelWidth, y, max(x(v), 1), barHeight, c.color, labelWidth+max(x(v), 1)+6, y+barHeight-4, text(rate, v))
			}
			y += barHeight + barGap
		}
		y += groupGap
	}
	fmt.Fprintf(&out, `<text x="%d" y="%d" fill="#666666">calls, items or requests a second; the scale is logarithmic</text>`+"\n</svg>\n", labelWidth, height-8)
	return out.Bytes(), nil
}

func escape(s string) string {
	var out bytes.Buffer
	xml.EscapeText(&out, []byte(s)) //nolint:errcheck // a buffer takes everything
	return out.String()
}
