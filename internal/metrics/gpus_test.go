package metrics

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestGPUs: a scrape never waits for the driver's tool, which runs at most every five seconds and once at a time; old numbers are shown for a minute.
func TestGPUs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs, answer := 0, "0, NVIDIA H200, 37, 1024, 142747\n1, NVIDIA H200 \"NVL\", [N/A], [N/A], [N/A]\nfailed, to, read\n"
		var err error
		g := gpus{find: func() func(context.Context) ([]byte, error) {
			return func(context.Context) ([]byte, error) {
				runs++
				time.Sleep(2 * time.Second)
				return []byte(answer), err
			}
		}}
		for range 3 {
			begun := time.Now()
			if all := g.now(); all != nil || time.Since(begun) != 0 {
				t.Errorf("%v after %v", all, time.Since(begun))
			}
		}
		time.Sleep(3 * time.Second)
		p := &page{names: map[string]bool{}}
		g.write(p)
		if runs != 1 {
			t.Errorf("the tool has run %d times", runs)
		}
		want := `# HELP ray_node_gpus_available 1 for each GPU of the machine.
# TYPE ray_node_gpus_available gauge
ray_node_gpus_available{GpuDeviceName="NVIDIA H200",GpuIndex="0"} 1
ray_node_gpus_available{GpuDeviceName="NVIDIA H200 \"NVL\"",GpuIndex="1"} 1
# HELP ray_node_gpus_utilization Use of the GPU, in percent: the part of the time in which a program ran on it.
# TYPE ray_node_gpus_utilization gauge
ray_node_gpus_utilization{GpuDeviceName="NVIDIA H200",GpuIndex="0"} 37
# HELP ray_node_gram_used Memory of the GPU in use, in megabytes.
# TYPE ray_node_gram_used gauge
ray_node_gram_used{GpuDeviceName="NVIDIA H200",GpuIndex="0"} 1024
# HELP ray_node_gram_available Memory of the GPU that is free, in megabytes.
# TYPE ray_node_gram_available gauge
ray_node_gram_available{GpuDeviceName="NVIDIA H200",GpuIndex="0"} 142747
`
		if diff := cmp.Diff(want, string(p.b)); diff != "" {
			t.Error(diff)
		}
		err = errors.New("the driver is not loaded")
		time.Sleep(30 * time.Second)
		if len(g.now()) != 2 {
			t.Error("the numbers are gone at once")
		}
		time.Sleep(time.Minute)
		if all := g.now(); all != nil {
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
	g := gpus{find: func() func(context.Context) ([]byte, error) { finds++; return nil }}
	p := &page{names: map[string]bool{}}
	g.write(p)
	g.write(p)
	if len(p.b) != 0 || finds != 1 {
		t.Errorf("%q after %d looks for the tool", p.b, finds)
	}
}
