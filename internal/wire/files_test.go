package wire

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func testFile(tb testing.TB) *os.File {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "passed")
	if err := os.WriteFile(name, []byte("over"), 0o600); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f
}

func TestSendFiles(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	if err := sendFiles(a, []byte("hello"), testFile(t), testFile(t)); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 16)
	n, files, err := receiveFiles(b, data, 2)
	if err != nil || len(files) != 2 || string(data[:n]) != "hello" {
		t.Fatalf("%d files, %q, %v", len(files), data[:n], err)
	}
	for i, f := range files {
		if flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_GETFD, 0); flags&syscall.FD_CLOEXEC == 0 {
			t.Errorf("file %d is inherited by children", i)
		}
		if got, err := io.ReadAll(f); string(got) != "over" || err != nil {
			t.Errorf("file %d: %q, %v", i, got, err)
		}
		f.Close()
	}
}

func TestReceiveFilesRefuses(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	f := testFile(t)
	data := make([]byte, 1)
	for _, c := range []struct{ sent, max int }{{2, 1}, {9, 2}, {1, 0}} {
		files := []*os.File{f, f, f, f, f, f, f, f, f}
		if err := sendFiles(a, []byte("x"), files[:c.sent]...); err != nil {
			t.Fatal(err)
		}
		if _, got, err := receiveFiles(b, data, c.max); err == nil || got != nil {
			t.Errorf("%d sent, %d wanted: %d came, %v", c.sent, c.max, len(got), err)
		}
	}
	a.Write([]byte("y"))
	if n, got, err := receiveFiles(b, data, 1); n != 1 || got != nil || err != nil {
		t.Errorf("bytes alone: %d, %v, %v", n, got, err)
	}
	if sendFiles(a, nil, f) == nil || sendFiles(a, data) == nil {
		t.Error("sent nothing")
	}
	closed := testFile(t)
	closed.Close()
	if sendFiles(a, data, f, closed) == nil {
		t.Error("sent a closed file")
	}
	a.Close()
	if sendFiles(a, data, f) == nil {
		t.Error("sent over a closed connection")
	}
	if _, _, err := receiveFiles(b, data, 1); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
