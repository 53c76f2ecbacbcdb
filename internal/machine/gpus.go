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

// The questions to the tool: the GPUs of the machine, and the processes that compute on them.
var (
	gpuArguments     = []string{"--query-gpu=index,name,utilization.gpu,memory.used,memory.free", "--format=csv,noheader,nounits"} //nolint:gochecknoglobals // a constant
	processArguments = []string{"--query-compute-apps=pid,gpu_uuid,used_memory", "--format=csv,noheader,nounits"}                  //nolint:gochecknoglobals // a constant
)

// The times of a look at the GPUs.
const (
	gpuLimit      = 10 * time.Second // that the tool may take
	gpuPeriod     = 5 * time.Second  // between two looks, at least
	processPeriod = 15 * time.Second // between two looks at processes: a node that gives out GPUs looks while replicas hold some, asked or not
	gpuAge        = time.Minute      // of numbers that are still given
)

// GPUs has the numbers of the GPUs of the machine. A reader gets those of the last look and, if these are old, has the tool run again, without waiting for it: so the first
// reader gets none, and the next gets numbers that are as old as the time between them. A node that no reader asks runs no tool; nor does one on a machine without the tool.
// Its methods may be called from any goroutine.
type GPUs struct {
	find func() (query func(ctx context.Context, arguments []string) ([]byte, error)) // nil for no tool

	mu        sync.Mutex
	looked    bool
	query     func(ctx context.Context, arguments []string) ([]byte, error)
	all       looks[GPU]
	processes looks[GPUProcess]
}

// looks are the answers of the tool to one question. Guarded by GPUs.mu.
type looks[T any] struct {
	running bool
	begun   time.Time // of the last look
	at      time.Time // of the answer
	last    []T
}

// GPU has the numbers of one GPU. A number that the driver does not know, such as the use of a GPU that is divided (MIG), is negative.
type GPU struct {
	Index, Name string
	Percent     float64 // the part of the time in which a program ran on it
	Used, Free  float64 // megabytes
}

// GPUProcess is the use of one GPU by one process.
type GPUProcess struct {
	PID    int
	Device string // its UUID
	Used   uint64 // bytes of its memory
}

// NewGPUs finds the tool of the driver with the first question.
func NewGPUs() *GPUs { return &GPUs{find: findGPUTool} }

// NewGPUsOf asks a function in the place of the tool, for tests.
func NewGPUsOf(query func(ctx context.Context, arguments []string) ([]byte, error)) *GPUs {
	return &GPUs{find: func() func(context.Context, []string) ([]byte, error) { return query }}
}

// SharedGPUs are the GPUs of the machine for all readers of this process: the metrics and the pages of a node run the tool once for both.
var SharedGPUs = sync.OnceValue(NewGPUs) //nolint:gochecknoglobals // there is one machine

// findGPUTool is the tool of the driver; nil if there is none.
func findGPUTool() func(context.Context, []string) ([]byte, error) {
	path, err := exec.LookPath(gpuTool)
	if err != nil {
		return nil
	}
	return func(ctx context.Context, arguments []string) ([]byte, error) {
		return exec.CommandContext(ctx, path, arguments...).Output()
	}
}

// Now gives the numbers of the last look, and has another begin if it is time. The slice is shared and must not be changed.
func (g *GPUs) Now() []GPU {
	all, _ := look(g, &g.all, gpuArguments, gpuPeriod, readGPUs)
	return all
}

// Processes gives the processes that computed on GPUs at the last look, and has another begin if it is time. It is false while the processes are not known. The slice is shared and must not be
// changed. In a container the driver names its own numbers of processes, or none.
func (g *GPUs) Processes() (all []GPUProcess, known bool) {
	return look(g, &g.processes, processArguments, processPeriod, readGPUProcesses)
}

// look gives the last answer to a question, and asks again if it is time. After an error the last answer stays until it is too old.
func look[T any](g *GPUs, of *looks[T], arguments []string, period time.Duration, read func([]byte) (all []T, ok bool)) (last []T, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.looked {
		g.looked, g.query = true, g.find()
	}
	if g.query == nil {
		return nil, false
	}
	now := time.Now()
	if !of.running && now.Sub(of.begun) >= period {
		of.running, of.begun = true, now
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), gpuLimit)
			defer cancel()
			text, err := g.query(ctx, arguments)
			all, ok := read(text)
			g.mu.Lock()
			defer g.mu.Unlock()
			of.running = false
			if err == nil && ok {
				of.last, of.at = all, time.Now()
			}
		}()
	}
	if now.Sub(of.at) > gpuAge {
		return nil, false
	}
	return of.last, true
}

// readGPUs reads the answer of the tool: a line for each GPU, such as "0, NVIDIA H200, 37, 1024, 142747". A line of another form is left out. It is false for an answer without a GPU.
func readGPUs(text []byte) (all []GPU, ok bool) {
	for _, f := range fieldsOf(text, 5) {
		number := func(s string) float64 {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) { // such as [N/A]; no JSON has the others
				return -1
			}
			return v
		}
		all = append(all, GPU{f[0], f[1], number(f[2]), number(f[3]), number(f[4])})
	}
	return all, len(all) > 0
}

// readGPUProcesses reads the answer of the tool: a line for each process on each GPU, such as "4711, GPU-8f1c, 31744" with MiB. A line with another number, such as [N/A] or [Insufficient Permissions], is
// left out.
func readGPUProcesses(text []byte) (all []GPUProcess, ok bool) {
	for _, f := range fieldsOf(text, 3) {
		pid, err := strconv.Atoi(f[0])
		used, uerr := strconv.ParseUint(f[2], 10, 64)
		if err == nil && uerr == nil && pid > 0 && used < 1<<32 { // MiB: a number above is no memory of a GPU
			all = append(all, GPUProcess{pid, f[1], used << 20})
		}
	}
	return all, true
}

// fieldsOf are the fields of the lines that have a number of them.
func fieldsOf(text []byte, number int) (lines [][]string) {
	r := csv.NewReader(strings.NewReader(string(text)))
	r.TrimLeadingSpace, r.FieldsPerRecord, r.LazyQuotes = true, -1, true
	all, _ := r.ReadAll() //nolint:errcheck // the lines before a mistake are there
	for _, f := range all {
		if len(f) != number {
			continue
		}
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		lines = append(lines, f)
	}
	return lines
}
