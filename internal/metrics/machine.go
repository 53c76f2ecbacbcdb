package metrics

import (
	"runtime"
	"sync"
	"syscall"

	"github.com/helve-serve/helve/internal/machine"
	"github.com/helve-serve/helve/internal/telemetry"
)

// host shows the numbers of the machine that the reference's dashboards ask for: processors, GPUs, memory, disk, network. Its rates are since the scrape before; the first scrape
// has the rate since the machine started. On systems without /proc the numbers are left out.
type host struct {
	gpus *machine.GPUs

	mu     sync.Mutex
	before machine.Sample
}

func (m *host) write(p *page, s *telemetry.Snapshot) {
	var object, size, leased = "ray_object_store_memory", uint64(0), uint64(0)
	for _, a := range s.Applications {
		if a.SharedMemory != nil {
			size += a.SharedMemory.Size
			leased += a.SharedMemory.Leased
		}
	}
	one := func(name, help, labels string, v float64) {
		p.family(name, gauge, help)
		p.line(labels, v)
	}
	one(object, "Shared memory for large values that is in use, in bytes.", "", float64(leased))
	one("ray_resources", "The shared memory for large values, in bytes.", label("", "Name", "object_store_memory"), float64(size))
	kind := label("", "NodeType", "local")
	one("autoscaler_active_nodes", "1: this node.", kind, 1)
	one("autoscaler_pending_nodes", "0: nodes are not started by themselves.", kind, 0)
	one("autoscaler_recently_failed_nodes", "0: nodes are not started by themselves.", kind, 0)
	one("autoscaler_cluster_resources", "The processors and GPUs of the machine.", label("", "resource", "CPU"), float64(runtime.NumCPU()))
	gpus := m.gpus.Now()
	if n := len(gpus); n > 0 {
		p.line(label("", "resource", "GPU"), float64(n))
	}
	writeGPUs(p, gpus)
	one("ray_node_cpu_count", "The processors of the machine.", "", float64(runtime.NumCPU()))

	now, ok := machine.Read()
	if ok {
		one("ray_node_mem_total", "Memory of the machine, in bytes.", "", float64(now.Memory))
		one("ray_node_mem_used", "Memory of the machine in use, in bytes.", "", float64(now.Memory-now.Available))
		one("ray_node_mem_available", "Memory of the machine that programs can get, in bytes.", "", float64(now.Available))
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs("/", &disk); err == nil {
		block := uint64(disk.Bsize) //nolint:unconvert // it has another type on darwin
		one("ray_node_disk_usage", "The root file system in use, in bytes.", "", float64((disk.Blocks-disk.Bfree)*block))
		one("ray_node_disk_free", "Room in the root file system, in bytes.", "", float64(disk.Bavail*block))
	}
	if !ok {
		return
	}
	m.mu.Lock()
	before := m.before
	m.before = now
	m.mu.Unlock()
	utilization, received, sent := now.Since(before)
	one("ray_node_cpu_utilization", "Use of the processors of the machine, in percent, since the scrape before.", "", utilization)
	one("ray_node_network_received", "Bytes that the machine has received.", "", float64(now.Received))
	one("ray_node_network_sent", "Bytes that the machine has sent.", "", float64(now.Sent))
	one("ray_node_network_receive_speed", "Bytes a second that the machine has received, since the scrape before.", "", received)
	one("ray_node_network_send_speed", "Bytes a second that the machine has sent, since the scrape before.", "", sent)
}

// writeGPUs writes the numbers of the GPUs, under the names of the reference.
func writeGPUs(p *page, all []machine.GPU) {
	if len(all) == 0 {
		return
	}
	for _, f := range []struct {
		name, help string
		value      func(machine.GPU) float64
	}{
		{"ray_node_gpus_available", "1 for each GPU of the machine.", func(machine.GPU) float64 { return 1 }},
		{"ray_node_gpus_utilization", "Use of the GPU, in percent: the part of the time in which a program ran on it.", func(g machine.GPU) float64 { return g.Percent }},
		{"ray_node_gram_used", "Memory of the GPU in use, in megabytes.", func(g machine.GPU) float64 { return g.Used }},
		{"ray_node_gram_available", "Memory of the GPU that is free, in megabytes.", func(g machine.GPU) float64 { return g.Free }},
	} {
		p.family(f.name, gauge, f.help)
		for _, one := range all {
			if v := f.value(one); v >= 0 {
				p.line(label(label("", "GpuDeviceName", one.Name), "GpuIndex", one.Index), v)
			}
		}
	}
}
