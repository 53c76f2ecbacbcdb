package listen

import (
	"errors"
	"net"
	"testing"
)

// TestLimit: the connection above the limit waits until one of the others is closed, and Close ends the wait.
func TestLimit(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(inner, 1)
	for range 2 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	type accepted struct {
		c   net.Conn
		err error
	}
	second := make(chan accepted)
	accept := func() {
		c, err := l.Accept()
		second <- accepted{c, err}
	}
	go accept()
	select {
	case <-second:
		t.Fatal("there are two connections")
	default:
	}
	first.Close()
	first.Close() // frees one slot
	got := <-second
	if got.err != nil {
		t.Fatal(got.err)
	}
	defer got.c.Close()
	go accept()
	l.Close()
	if got := <-second; !errors.Is(got.err, net.ErrClosed) {
		t.Errorf("%v", got.err)
	}
}
