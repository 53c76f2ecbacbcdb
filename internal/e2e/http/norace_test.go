//go:build !race

package http_test

const large = 1 << 30
