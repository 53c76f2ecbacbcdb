package capture

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/profile"
)

// TestTake: profiles of this process are files of pprof that have the functions of this test.
func TestTake(t *testing.T) {
	t.Parallel()
	var p Process
	parked, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	go func() { close(parked); waitHere(release) }()
	<-parked
	kept := make([][]byte, 64)
	for i := range kept {
		kept[i] = bytes.Repeat([]byte{1}, 1<<20) // above the rate of samples of memory
	}
	for kind, want := range map[profile.Kind]string{profile.Stacks: "capture.waitHere", profile.Heap: "capture.TestTake"} {
		file, err := p.Take(t.Context(), kind, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		read, err := profile.Decode(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(read.Folded(), want) {
			t.Errorf("the profile %s has no %s:\n%s", kind, want, read.Folded())
		}
	}
	if len(kept[0]) == 0 {
		t.Error("the memory is gone")
	}
}

func waitHere(c <-chan struct{}) { <-c }

// TestEarly: a profile ends with its context, and gives the samples so far.
func TestEarly(t *testing.T) {
	t.Parallel()
	var p Process
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, kind := range []profile.Kind{profile.CPU, profile.Block} {
		file, err := p.Take(gone, kind, time.Hour)
		if err != nil {
			t.Fatal(kind, err)
		}
		if read, err := profile.Decode(file); err != nil || read.Duration > time.Minute {
			t.Errorf("%s: %+v, %v", kind, read, err)
		}
	}
}

// TestOneAtATime: a second profile is refused, until the first one has ended.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	var p Process
	taking, done, err := p.begin(t.Context(), profile.Block, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Take(t.Context(), profile.Stacks, time.Second)
	if busy, ok := errors.AsType[*BusyError](err); !ok || !strings.HasPrefix(busy.Other, "block, until ") {
		t.Errorf("a second profile: %v", err)
	}
	p.End()
	<-taking.Done()
	done()
	p.End() // of none
	if _, err := p.Take(t.Context(), profile.Stacks, time.Second); err != nil {
		t.Error(err)
	}
	if _, err := p.Take(t.Context(), "colour", time.Second); err == nil {
		t.Error("a profile of no kind")
	}
}
