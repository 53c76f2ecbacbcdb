package proc

import (
	"sync"
	"time"
)

// Spin runs a pure-CPU loop on n goroutines for a time, and gives the number of turns of all: the present speed of the machine.
func Spin(n int, length time.Duration) float64 {
	var wg sync.WaitGroup
	counts := make([]uint64, n*16) // a cache line for each
	end := time.Now().Add(length)
	for i := range n {
		wg.Go(func() {
			x, k := uint64(i+1), uint64(0)
			for time.Now().Before(end) {
				for range 1000 {
					x ^= x << 13
					x ^= x >> 7
					x ^= x << 17
				}
				k++
			}
			counts[i*16] = k + x&1 // so that the loop has a use
		})
	}
	wg.Wait()
	total := uint64(0)
	for _, c := range counts {
		total += c
	}
	return float64(total)
}
