//go:build race

package http_test

const large = 128 << 20 // the race detector takes the time of ten
