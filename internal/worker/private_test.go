package worker

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestPrivateFiles: files of a private directory are new and this user's alone, and end with it.
func TestPrivateFiles(t *testing.T) {
	t.Parallel()
	p, err := MakePrivate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Check(), p.Write("secret", []byte("s"))); err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(filepath.Join(p.Path(), "secret"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := p.Write("secret", nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file that is there: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}
}

// TestOtherUser: a connection of another user's process is closed unread. The listener is made for another user, which to it is the same.
func TestOtherUser(t *testing.T) {
	t.Parallel()
	p, err := MakePrivate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	l, err := p.Listen(DriverSocket)
	if err != nil {
		t.Fatal(err)
	}
	l.uid = os.Getuid() + 1
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	nc, err := net.Dial("unix", l.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
		t.Logf("the connection ends with %v", err)
		if err == nil {
			t.Error("it was served")
		}
	}
	l.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v: it was accepted", err)
	}
}
