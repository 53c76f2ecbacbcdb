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
		g := GPUs{find: func() func(context.Context, []string) ([]byte, error) {
			return func(_ context.Context, arguments []string) ([]byte, error) {
				if arguments[0] != "--query-gpu=index,name,utilization.gpu,memory.used,memory.free" {
					t.Error(arguments)
				}
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
	g := GPUs{find: func() func(context.Context, []string) ([]byte, error) { finds++; return nil }}
	if first, second := g.Now(), g.Now(); first != nil || second != nil || finds != 1 {
		t.Errorf("%v and %v after %d looks for the tool", first, second, finds)
	}
}

// TestGPUProcesses: the processes on the GPUs are known after the first look, also if there are none, and a number that the driver does not say is left out.
func TestGPUProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs, answer := 0, ""
		g := NewGPUsOf(func(_ context.Context, arguments []string) ([]byte, error) {
			runs++
			if arguments[0] != "--query-compute-apps=pid,gpu_uuid,used_memory" {
				t.Error(arguments)
			}
			return []byte(answer), nil
		})
		if all, known := g.Processes(); known {
			t.Errorf("before the first look: %v", all)
		}
		synctest.Wait()
		if all, known := g.Processes(); !known || len(all) != 0 {
			t.Errorf("%v, %v", all, known)
		}
		answer = "4711, GPU-8f1c, 31744\n4711, GPU-aa, 512\n12, GPU-8f1c, [N/A]\n[Not Found], GPU-8f1c, 5\n13, GPU-8f1c, 99999999999\n14, GPU-8f1c\n"
		time.Sleep(10 * time.Second)
		g.Processes()
		synctest.Wait()
		if runs != 1 {
			t.Errorf("the tool has run %d times", runs)
		}
		time.Sleep(10 * time.Second)
		g.Processes()
		synctest.Wait()
		all, known := g.Processes()
		if diff := cmp.Diff([]GPUProcess{{4711, "GPU-8f1c", 31744 << 20}, {4711, "GPU-aa", 512 << 20}}, all); diff != "" || !known {
			t.Error(diff)
		}
		if runs != 2 {
			t.Errorf("the tool has run %d times", runs)
		}
		time.Sleep(2 * time.Minute)
	})
}

// FuzzGPUs reads any text as an answer of the tool.
func FuzzGPUs(f *testing.F) {
	for _, text := range []string{"4711, GPU-8f1c, 31744\n", "0, NVIDIA H200, 37, 1024, 142747\n", "1, \"x, 2", "-1, GPU-1, -5\n", "\r\n,,\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		processes, _ := readGPUProcesses(text)
		for _, p := range processes {
			if p.PID <= 0 || p.Used>>20<<20 != p.Used || p.Used > 1<<52 {
				t.Errorf("%+v of %q", p, text)
			}
		}
		gpus, ok := readGPUs(text)
		if ok != (len(gpus) > 0) || len(gpus)+len(processes) > len(text) {
			t.Errorf("%v, %v of %q", gpus, processes, text)
		}
	})
}
