package metrics

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/telemetry"
)

// machine shows the numbers of the machine that the reference's dashboards ask for: processors, GPUs, memory, disk, network. Its rates are since the scrape before; the first scrape
// has the rate since the machine started. On systems without /proc the numbers are left out.
type machine struct {
	gpus gpus

	mu     sync.Mutex
	before sampled
}

// sampled are numbers of the machine that only grow.
type sampled struct {
	at             time.Time
	busy, idle     uint64 // ticks of all processors
	received, sent uint64 // bytes
}

func (m *machine) write(p *page, s *telemetry.Snapshot) {
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
	if n := len(m.gpus.now()); n > 0 {
		p.line(label("", "resource", "GPU"), float64(n))
	}
	m.gpus.write(p)
	one("ray_node_cpu_count", "The processors of the machine.", "", float64(runtime.NumCPU()))

	if all, err := os.ReadFile("/proc/meminfo"); err == nil {
		total, available := memory(all)
		one("ray_node_mem_total", "Memory of the machine, in bytes.", "", float64(total))
		one("ray_node_mem_used", "Memory of the machine in use, in bytes.", "", float64(total-available))
		one("ray_node_mem_available", "Memory of the machine that programs can get, in bytes.", "", float64(available))
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs("/", &disk); err == nil {
		block := uint64(disk.Bsize) //nolint:unconvert // it has another type on darwin
		one("ray_node_disk_usage", "The root file system in use, in bytes.", "", float64((disk.Blocks-disk.Bfree)*block))
		one("ray_node_disk_free", "Room in the root file system, in bytes.", "", float64(disk.Bavail*block))
	}
	now := sampled{at: time.Now()}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return
	}
	now.busy, now.idle = processors(stat)
	net, err := os.ReadFile("/proc/net/dev")
	if err == nil {
		now.received, now.sent = network(net)
	}
	m.mu.Lock()
	before := m.before
	m.before = now
	m.mu.Unlock()
	utilization, received, sent := now.since(before)
	one("ray_node_cpu_utilization", "Use of the processors of the machine, in percent, since the scrape before.", "", utilization)
	one("ray_node_network_received", "Bytes that the machine has received.", "", float64(now.received))
	one("ray_node_network_sent", "Bytes that the machine has sent.", "", float64(now.sent))
	one("ray_node_network_receive_speed", "Bytes a second that the machine has received, since the scrape before.", "", received)
	one("ray_node_network_send_speed", "Bytes a second that the machine has sent, since the scrape before.", "", sent)
}

// since gives the use of processors in percent, and bytes a second, between two samples. Without a sample before there are no bytes a second.
func (s sampled) since(before sampled) (utilization, received, sent float64) {
	if all := float64(s.busy+s.idle) - float64(before.busy+before.idle); all > 0 {
		utilization = 100 * max(float64(s.busy)-float64(before.busy), 0) / all
	}
	if took := s.at.Sub(before.at).Seconds(); took > 0 && !before.at.IsZero() {
		received = max(float64(s.received)-float64(before.received), 0) / took
		sent = max(float64(s.sent)-float64(before.sent), 0) / took
	}
	return utilization, received, sent
}

// memory reads /proc/meminfo: bytes.
func memory(file []byte) (total, available uint64) {
	for line := range strings.Lines(string(file)) {
		switch f := strings.Fields(line); {
		case len(f) < 2:
		case f[0] == "MemTotal:":
			total = 1024 * numberOf(f[1])
		case f[0] == "MemAvailable:":
			available = 1024 * numberOf(f[1])
		}
	}
	return total, min(available, total)
}

// processors reads the first line of /proc/stat, the ticks of all processors: user, nice, system, idle, iowait, irq, softirq, steal.
func processors(file []byte) (busy, idle uint64) {
	line, _, _ := bytes.Cut(file, []byte("\n"))
	fields := strings.Fields(string(line))
	for i, f := range fields {
		switch n := numberOf(f); {
		case i == 0 || i > 8: // the name; time of guests, which is in user too
		case i == 4 || i == 5:
			idle += n
		default:
			busy += n
		}
	}
	return busy, idle
}

// network reads /proc/net/dev: the bytes of all devices but the loopback.
func network(file []byte) (received, sent uint64) {
	for lines := bufio.NewScanner(bytes.NewReader(file)); lines.Scan(); {
		device, numbers, ok := strings.Cut(lines.Text(), ":")
		if f := strings.Fields(numbers); ok && strings.TrimSpace(device) != "lo" && len(f) > 8 {
			received += numberOf(f[0])
			sent += numberOf(f[8])
		}
	}
	return received, sent
}

// numberOf is 0 for a text that is no number.
func numberOf(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) //nolint:errcheck // see above
	return n
}
