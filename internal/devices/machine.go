package devices

import (
	"bufio"
	"fmt"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Machine has the sizes of a machine, without its GPUs.
type Machine struct {
	CPUs   float64
	Memory int64 // bytes; 0 if it is not known
}

// Asked has the amounts that one replica asks for. They are of things that nobody has stated: the kernel shares CPUs and memory, and limits bound them.
type Asked struct {
	CPUs   float64
	Memory int64 // bytes
	Custom map[string]float64
}

// This is the machine that the program runs on.
func This() Machine {
	m := Machine{CPUs: float64(runtime.NumCPU())}
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return m
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kb int64
		if n, _ := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &kb); n == 1 {
			m.Memory = kb << 10
		}
	}
	return m
}

// Exceeds says what replicas ask for that the machine does not have, a sentence for each. A machine has no custom resources. For example, three
// replicas that ask for 2 CPUs each on a machine with 4: "3 replicas ask for 6 CPUs, and the machine has 4. ...".
func (m Machine) Exceeds(a Asked, replicas int) (sentences []string) {
	const anyway = "They start all the same: only GPUs, and the amounts that helve start states (%s), are given out."
	many := "1 replica asks"
	if replicas != 1 {
		many = fmt.Sprintf("%d replicas ask", replicas)
	}
	if cpus := a.CPUs * float64(replicas); cpus > m.CPUs {
		sentences = append(sentences, fmt.Sprintf("%s for %s CPUs, and the machine has %s. %s", many, number(cpus), number(m.CPUs), fmt.Sprintf(anyway, "--num-cpus")))
	}
	if memory := float64(a.Memory) * float64(replicas); m.Memory > 0 && memory > float64(m.Memory) {
		sentences = append(sentences, fmt.Sprintf("%s for %.1f GiB of memory, and the machine has %.1f. %s", many, memory/(1<<30), float64(m.Memory)/(1<<30), fmt.Sprintf(anyway, "--memory")))
	}
	var custom []string
	for _, name := range slices.Sorted(maps.Keys(a.Custom)) {
		if a.Custom[name] > 0 {
			custom = append(custom, fmt.Sprintf("%s of %q", number(a.Custom[name]*float64(replicas)), name))
		}
	}
	if len(custom) > 0 && replicas > 0 {
		sentences = append(sentences, fmt.Sprintf("%s for %s, and a node knows no such resource. %s", many, strings.Join(custom, ", "), fmt.Sprintf(anyway, "--resources")))
	}
	return sentences
}

// number writes an amount without the error of sums of floats.
func number(n float64) string {
	const digits = 10_000
	return strconv.FormatFloat(math.Round(n*digits)/digits, 'f', -1, 64)
}
