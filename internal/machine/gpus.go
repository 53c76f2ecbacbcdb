package machine

import (
	"context"
	"encoding/csv"
	"math"
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
	gpuAge    = time.Minute      // of numbers that are still given
)

// GPUs has the numbers of the GPUs of the machine. A reader gets those of the last look and, if these are old, has the tool run again, without waiting for it: so the first
// reader gets none, and the next gets numbers that are as old as the time between them. A node that no reader asks runs no tool; nor does one on a machine without the tool.
// Its methods may be called from any goroutine.
type GPUs struct {
	find func() (query func(context.Context) ([]byte, error)) // nil for no tool

	mu      sync.Mutex
	looked  bool
	query   func(context.Context) ([]byte, error)
	running bool
	begun   time.Time // of the last look
	at      time.Time // of the numbers
	all     []GPU
}

// GPU has the numbers of one GPU. A number that the driver does not know, such as the use of a GPU that is divided (MIG), is negative.
type GPU struct {
	Index, Name string
	Percent     float64 // the part of the time in which a program ran on it
	Used, Free  float64 // megabytes
}

// NewGPUs finds the tool of the driver with the first question.
func NewGPUs() *GPUs { return &GPUs{find: findGPUTool} }

// SharedGPUs are the GPUs of the machine for all readers of this process: the metrics and the pages of a node run the tool once for both.
var SharedGPUs = sync.OnceValue(NewGPUs) //nolint:gochecknoglobals // there is one machine

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

// Now gives the numbers of the last look, and has another begin if it is time. The slice is shared and must not be changed.
func (g *GPUs) Now() []GPU {
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
func (g *GPUs) look() {
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
func readGPUs(text []byte) (all []GPU) {
	r := csv.NewReader(strings.NewReader(string(text)))
	r.TrimLeadingSpace, r.FieldsPerRecord, r.LazyQuotes = true, -1, true
	lines, _ := r.ReadAll() //nolint:errcheck // the lines before a mistake are there
	for _, f := range lines {
		if len(f) != 5 {
			continue
		}
		number := func(s string) float64 {
			v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) { // such as [N/A]; no JSON has the others
				return -1
			}
			return v
		}
		all = append(all, GPU{strings.TrimSpace(f[0]), strings.TrimSpace(f[1]), number(f[2]), number(f[3]), number(f[4])})
	}
	return all
}
