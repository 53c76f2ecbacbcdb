package usage

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/helve-serve/helve/internal/machine"
)

// Kin are the relations of a process.
type Kin struct {
	Parent, Group int
	// GPU says that it has opened a GPU. The driver may name the process of another container by the same number.
	GPU bool
}

// KinOf reads the relations of a process. GPU is read only if files is set, because a process may have very many open files. false: the process has ended, or the system has no /proc.
func KinOf(pid int, files bool) (k Kin, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return k, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 3 {
		return k, false
	}
	parent, perr := strconv.Atoi(fields[1])
	group, gerr := strconv.Atoi(fields[2])
	if perr != nil || gerr != nil {
		return k, false
	}
	return Kin{parent, group, files && opensGPU(dir)}, true
}

// opensGPU says whether a process has opened a GPU.
func opensGPU(dir string) bool {
	files, _ := os.ReadDir(dir + "/fd") //nolint:errcheck // of a process of another user, which is no replica
	return slices.ContainsFunc(files, func(f os.DirEntry) bool {
		path, err := os.Readlink(dir + "/fd/" + f.Name())
		return err == nil && strings.HasPrefix(path, "/dev/nvidia")
	})
}

// LookAtGPUs notes the memory of GPUs that the processes of replicas use, with their children, by the answer of the driver, and gives it by the ids of the replicas. kin is [KinOf]. here is false if the
// driver has named processes, and none of them is here: a container has process ids of its own, and the driver names those of the machine. Nothing is recorded then.
//
// For example, the worker 10 of Model#1 has started the process 12, which uses 2 GiB, and uses 30 GiB itself: Model#1 uses 32 GiB.
func (m *Meter) LookAtGPUs(all []machine.GPUProcess, replicas map[string]int, kin func(pid int, files bool) (Kin, bool)) (by map[string]uint64, here bool) {
	var used map[int]uint64
	if len(all) > 0 {
		used, here = usedBy(all, replicas, kin)
	}
	m.mu.Lock()
	m.gpus = used
	m.mu.Unlock()
	if len(used) == 0 {
		return nil, here || len(all) == 0
	}
	by = map[string]uint64{}
	for id, pid := range replicas {
		if n := used[pid]; n > 0 {
			by[id] = n
		}
	}
	return by, true
}

// usedBy is the memory of GPUs by the workers that use it.
func usedBy(all []machine.GPUProcess, replicas map[string]int, kin func(pid int, files bool) (Kin, bool)) (used map[int]uint64, here bool) {
	workers := map[int]bool{}
	for _, pid := range replicas {
		workers[pid] = true
	}
	used = map[int]uint64{}
	for _, p := range all {
		k, ok := kin(p.PID, true)
		if !ok || !k.GPU {
			continue
		}
		here = true
		if worker := workerOf(p.PID, k, workers, kin); worker != 0 {
			used[worker] += p.Used
		}
	}
	return used, here
}

// generations bounds the walk to the parents of a process.
const generations = 32

// workerOf is the worker that a process is, or is a descendant of; 0 for none. A descendant whose parents have ended may be in the group of the worker still.
func workerOf(pid int, k Kin, workers map[int]bool, kin func(pid int, files bool) (Kin, bool)) int {
	first := k
	for range generations {
		if workers[pid] {
			return pid
		}
		if pid = k.Parent; pid <= 1 {
			break
		}
		var ok bool
		if k, ok = kin(pid, false); !ok {
			break
		}
	}
	if workers[first.Group] {
		return first.Group
	}
	return 0
}
