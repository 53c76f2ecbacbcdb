package machine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestGPUs: a reader never waits for the driver's tool, which runs at most every five seconds and once at a time; old numbers are given for a minute.
func TestGPUs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs, answer := 0, "0, NVIDIA H200, 37, 1024, 142747\n1, NVIDIA H200 \"NVL\", [N/A], nan, inf\nfailed, to, read\n"
		var err error
		g := GPUs{find: func() func(context.Context) ([]byte, error) {
			return func(context.Context) ([]byte, error) {
				runs++
				time.Sleep(2 * time.Second)
				return []byte(answer), err
			}
		}}
		for range 3 {
			begun := time.Now()
			if all := g.Now(); all != nil || time.Since(begun) != 0 {
				t.Errorf("%v after %v", all, time.Since(begun))
			}
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if runs != 1 {
			t.Errorf("the tool has run %d times", runs)
		}
		want := []GPU{{"0", "NVIDIA H200", 37, 1024, 142747}, {"1", `NVIDIA H200 "NVL"`, -1, -1, -1}}
		if diff := cmp.Diff(want, g.Now()); diff != "" {
			t.Error(diff)
		}
		err = errors.New("the driver is not loaded")
		time.Sleep(30 * time.Second)
		if len(g.Now()) != 2 {
			t.Error("the numbers are gone at once")
		}
		time.Sleep(time.Minute)
		if all := g.Now(); all != nil {
			t.Errorf("numbers of more than a minute ago: %v", all)
		}
		synctest.Wait()
		time.Sleep(time.Minute)
	})
}

// TestNoGPUs: on a machine without the tool nothing is shown, and nothing runs.
func TestNoGPUs(t *testing.T) {
	t.Parallel()
	finds := 0
	g := GPUs{find: func() func(context.Context) ([]byte, error) { finds++; return nil }}
	if first, second := g.Now(), g.Now(); first != nil || second != nil || finds != 1 {
		t.Errorf("%v and %v after %d looks for the tool", first, second, finds)
	}
}
