// Package web has the files of the dashboard as a browser gets them: pages, styles and modules of JavaScript, and the scripts of other projects below
// vendor. There is no build step: a file that is changed here is in the next build of the binary.
package web

import "embed"

// Files has the files that a node serves below /ui/, by their paths there: index.html, app.js, vendor/preact/standalone.module.js. Tests of the
// pages are in the directory, and not in Files.
//
//go:embed index.html *.js *.css *.svg pages ui vendor
var Files embed.FS
