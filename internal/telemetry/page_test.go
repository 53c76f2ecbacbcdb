package telemetry

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain is also the worker of TestPageOfAProcessThatIsKilled: it counts in the page that it has inherited, and ends by a signal.
func TestMain(m *testing.M) {
	if os.Getenv("TELEMETRY_TEST_WORKER") == "" {
		os.Exit(m.Run())
	}
	p, err := OpenPage(os.NewFile(3, "page"))
	if err != nil {
		panic(err)
	}
	l, ok := p.Find("D#001")
	if !ok {
		panic("no slot")
	}
	for i := range 1000 {
		l.Calls().Begin()
		l.Calls().End(3*time.Millisecond, i%10 == 0)
	}
	l.Calls().Begin() // the call dies with the process
	fmt.Println("counted")
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // the test kills the process. With select{} the runtime ended it as a deadlock, often before the test had looked at its descriptor
}

// TestPageOfAProcessThatIsKilled: the node has every call that the worker counted, and the call that died with it has failed. While it lived,
// another process found the page by the worker's descriptor.
func TestPageOfAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	p, err := NewPage()
	if err != nil {
		t.Fatal(err)
	}
	defer p.File().Close()
	if _, ok := p.Take("D#000"); !ok {
		t.Fatal("the page is full")
	}
	l, ok := p.Take("D#001")
	if !ok {
		t.Fatal("the page is full")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "TELEMETRY_TEST_WORKER=1")
	cmd.ExtraFiles = []*os.File{p.File()}
	in, err := cmd.StdinPipe() // open until the process is killed
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := out.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "counted") {
		t.Fatalf("%q, %v", b[:n], err)
	}
	next, err := PageOf(cmd.Process.Pid, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer next.File().Close()
	found, ok := next.Find("D#001")
	if !ok {
		t.Fatal("the next node does not find the slot")
	}
	if _, ok := next.Find("D#002"); ok {
		t.Error("a replica without a slot is found")
	}
	cmd.Process.Kill() //nolint:errcheck // Wait says it
	cmd.Wait()         //nolint:errcheck // it was killed
	for who, l := range map[string]*Lent{"the node": l, "the next node": found} {
		k := l.Counts()
		if k.Started != 1001 || k.Failed != 100 || k.Ended() != 1000 || k.Buckets[2] != 1000 || k.Busy != 3*time.Second {
			t.Errorf("%s: %+v", who, k)
		}
		if k.Settle(); k.Failed != 101 {
			t.Errorf("%s: %d have failed, want 101", who, k.Failed)
		}
	}
}

// TestSlots: as many replicas as there are slots have one, a freed one is used again from zero, and goroutines do not get the same.
func TestSlots(t *testing.T) {
	t.Parallel()
	p := NewLocalPage()
	var taking sync.WaitGroup
	for g := range 4 {
		taking.Go(func() {
			for i := g; i < pageSlots; i += 4 {
				l, ok := p.Take(fmt.Sprint("D#", i))
				if !ok {
					t.Error("the page is full")
					return
				}
				l.Calls().Begin()
			}
		})
	}
	taking.Wait()
	if _, ok := p.Take("one more"); ok {
		t.Error("a full page has a slot")
	}
	for g := range 4 {
		l, ok := p.Find(fmt.Sprint("D#", g))
		if !ok || l.Counts().Started != 1 {
			t.Fatalf("replica %d: %v", g, ok)
		}
	}
	l, _ := p.Find("D#7")
	l.Free()
	if _, ok := p.Find("D#7"); ok {
		t.Error("a slot that was freed is found")
	}
	if l, ok := p.Take("one more"); !ok || l.Counts() != (Counts{}) {
		t.Errorf("%v, %+v", ok, l.Counts())
	}
}

// TestOpenPageRefusesOtherFiles: files of another kind, size or without seals are refused.
func TestOpenPageRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPage(f); err == nil {
		t.Error("a plain file is a page")
	}
	if _, err := PageOf(os.Getpid(), 99999); err == nil {
		t.Error("a descriptor that is not open is a page")
	}
}
