package metrics

import (
	"context"
	"encoding/csv"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The tool of NVIDIA's driver, which answers for all GPUs of the machine in one call, in megabytes and percent. It takes from 20 ms to some seconds, for example while a GPU
// wakes up. The driver's library would answer faster, but can be called from C only.
const gpuTool = "nvidia-smi"

var gpuArguments = []string{"--query-gpu=index,name,utilization.gpu,memory.used,memory.free", "--format=csv,noheader,nounits"} //nolint:gochecknoglobals // a constant

// The times of a look at the GPUs.
const (
	gpuLimit  = 10 * time.Second // that the tool may take
	gpuPeriod = 5 * time.Second  // between two looks, at least
	gpuAge    = time.Minute      // of numbers that are still shown
)

// gpus has the numbers of the GPUs of the machine. A scrape shows those of the last look and, if these are old, has the tool run again, without waiting for it: so the first
// scrape shows none, and the next shows numbers that are as old as the time between them. A node that no scraper asks runs no tool; nor does one on a machine without the tool.
type gpus struct {
	find func() (query func(context.Context) ([]byte, error)) // nil for no tool

	mu      sync.Mutex
	looked  bool
	query   func(context.Context) ([]byte, error)
	running bool
	begun   time.Time // of the last look
	at      time.Time // of the numbers
	all     []gpu
}

// gpu has the numbers of one GPU. A number that the driver does not know, such as the use of a GPU that is divided (MIG), is negative.
type gpu struct {
	index, name string
	percent     float64
	used, free  float64 // megabytes
}

// findGPUTool is the tool of the driver; nil if there is none.
func findGPUTool() func(context.Context) ([]byte, error) {
	path, err := exec.LookPath(gpuTool)
	if err != nil {
		return nil
	}
	return func(ctx context.Context) ([]byte, error) {
		return exec.CommandContext(ctx, path, gpuArguments...).Output()
	}
}

// now gives the numbers of the last look, and has another begin if it is time.
func (g *gpus) now() []gpu {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.looked {
		g.looked, g.query = true, g.find()
	}
	if g.query == nil {
		return nil
	}
	now := time.Now()
	if !g.running && now.Sub(g.begun) >= gpuPeriod {
		g.running, g.begun = true, now
		go g.look()
	}
	if now.Sub(g.at) > gpuAge {
		return nil
	}
	return g.all
}

// look asks the tool. After an error the numbers of before stay until they are too old.
func (g *gpus) look() {
	ctx, cancel := context.WithTimeout(context.Background(), gpuLimit)
	defer cancel()
	text, err := g.query(ctx)
	all := readGPUs(text)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = false
	if err == nil && len(all) > 0 {
		g.all, g.at = all, time.Now()
	}
}

// readGPUs reads the answer of the tool: a line for each GPU, such as "0, NVIDIA H200, 37, 1024, 142747". A line of another form is left out.
func readGPUs(text []byte) (all []gpu) {
	r := csv.NewReader(strings.NewReader(string(text)))
	r.TrimLeadingSpace, r.FieldsPerRecord, r.LazyQuotes = true, -1, true
	lines, _ := r.ReadAll() //nolint:errcheck // the lines before a mistake are there
	for _, f := range lines {
		if len(f) != 5 {
			continue
		}
		number := func(s string) float64 {
			v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
			if err != nil { // such as [N/A]
				return -1
			}
			return v
		}
		all = append(all, gpu{strings.TrimSpace(f[0]), strings.TrimSpace(f[1]), number(f[2]), number(f[3]), number(f[4])})
	}
	return all
}

// write writes the numbers of the GPUs, under the names of the reference.
func (g *gpus) write(p *page) {
	all := g.now()
	if len(all) == 0 {
		return
	}
	for _, f := range []struct {
		name, help string
		value      func(gpu) float64
	}{
		{"ray_node_gpus_available", "1 for each GPU of the machine.", func(gpu) float64 { return 1 }},
		{"ray_node_gpus_utilization", "Use of the GPU, in percent: the part of the time in which a program ran on it.", func(g gpu) float64 { return g.percent }},
		{"ray_node_gram_used", "Memory of the GPU in use, in megabytes.", func(g gpu) float64 { return g.used }},
		{"ray_node_gram_available", "Memory of the GPU that is free, in megabytes.", func(g gpu) float64 { return g.free }},
	} {
		p.family(f.name, gauge, f.help)
		for _, one := range all {
			if v := f.value(one); v >= 0 {
				p.line(label(label("", "GpuDeviceName", one.name), "GpuIndex", one.index), v)
			}
		}
	}
}
