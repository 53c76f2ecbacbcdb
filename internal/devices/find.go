// Package devices finds what the machine of a node has: its GPUs, its CPUs and its memory. Package placement gives them to replicas.
package devices

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Setting is the variable of the node that states the number of GPUs, and Visible the variable by which programs know theirs.
const (
	Setting = "HELVE_GPUS"
	Visible = "CUDA_VISIBLE_DEVICES"
)

// most is a bound for HELVE_GPUS, so that a slip of the keyboard makes no list of a billion names.
const most = 1024

// Find names the GPUs of a node, as CUDA_VISIBLE_DEVICES names them. root is the file system of the machine ([os.DirFS] of "/"), and env
// the environment of the node.
//
// The machine has as many as HELVE_GPUS says, else one for each file /dev/nvidia0, /dev/nvidia1 ..., else one for each directory in
// /proc/driver/nvidia/gpus: in a container the latter may show GPUs that the container was not given. CUDA_VISIBLE_DEVICES in the
// environment of the node restricts and names them. For example, on a machine with four, CUDA_VISIBLE_DEVICES=3,1 are the devices "3" and
// "1", in this order, and HELVE_GPUS=1 beside it is the device "3" alone.
func Find(root fs.FS, env []string) ([]string, error) {
	number := count(root)
	stated, ok := lookup(env, Setting)
	if ok && stated != "" {
		n, err := strconv.Atoi(stated)
		if err != nil || n < 0 || n > most {
			return nil, fmt.Errorf("%s: must be a number of GPUs, 0 to %d, is %q", Setting, most, stated)
		}
		number = n
	}
	visible, restricted := lookup(env, Visible)
	if !restricted {
		var names []string
		for i := range number {
			names = append(names, strconv.Itoa(i))
		}
		return names, nil
	}
	names := parseVisible(visible)
	if stated != "" {
		return names[:min(len(names), number)], nil
	}
	if number > 0 { // as CUDA does: the first name of no device ends the list
		if i := slices.IndexFunc(names, func(name string) bool {
			n, err := strconv.Atoi(name)
			return err == nil && n >= number
		}); i >= 0 {
			names = names[:i]
		}
		return names, nil
	}
	return nil, nil
}

// parseVisible reads the value of CUDA_VISIBLE_DEVICES: indices and UUIDs with commas between them. An entry that is no name of a device
// ends the list. For example, "0,-1,1" is the device 0, and "" and "none" are no devices.
func parseVisible(text string) (names []string) {
	for _, name := range strings.Split(text, ",") {
		name = strings.TrimSpace(name)
		if n, err := strconv.Atoi(name); err == nil && n >= 0 {
			name = strconv.Itoa(n)
		} else if !strings.HasPrefix(name, "GPU-") && !strings.HasPrefix(name, "MIG-") {
			break
		}
		if slices.Contains(names, name) {
			break
		}
		names = append(names, name)
	}
	return names
}

var device = regexp.MustCompile(`^nvidia[0-9]+$`)

// count is the number of NVIDIA GPUs of the machine.
func count(root fs.FS) (n int) {
	files, _ := fs.ReadDir(root, "dev") // without the directory there are none
	for _, f := range files {
		if device.MatchString(f.Name()) {
			n++
		}
	}
	if n == 0 {
		gpus, _ := fs.ReadDir(root, "proc/driver/nvidia/gpus")
		n = len(gpus)
	}
	return n
}

// lookup finds a variable; of two of one name the later counts.
func lookup(env []string, name string) (value string, ok bool) {
	for _, e := range env {
		if v, found := strings.CutPrefix(e, name+"="); found {
			value, ok = v, true
		}
	}
	return value, ok
}
