package clients

import "testing"

// TestLengthScan: the header is found however the bytes are cut into reads.
func TestLengthScan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n":                         true,
		"POST / HTTP/1.1\nHost: x\ncOnTeNt-LeNgTh: 4\n\n":                                 true,
		"POST / HTTP/1.1\r\nHost: x\r\nX-Content-Length: 4\r\nContent-Lengt: 1\r\n\r\n":   false,
		"POST /Content-Length HTTP/1.1\r\nHost: Content-Length: 1\r\n\r\n":                false,
		"POST / HTTP/1.1\r\n\n\nContent-Length: 4\r\n\r\n":                                true,
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n": true,
	} {
		for step := 1; step <= len(text); step++ {
			for first := range step {
				var l lengthScan
				l.scan([]byte(text[:first]))
				for rest := text[first:]; rest != "" && !l.seen.Load(); {
					n := min(step, len(rest))
					l.scan([]byte(rest[:n]))
					rest = rest[n:]
				}
				if l.seen.Load() != want {
					t.Fatalf("%q in steps of %d after %d: %t", text, step, first, !want)
				}
			}
		}
	}
}
