package devices

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The variables that state what the node gives out beside its GPUs. The flags of `helve start` and `helve run` set them.
const (
	NumCPUs   = "HELVE_NUM_CPUS"
	Memory    = "HELVE_MEMORY"
	Resources = "HELVE_RESOURCES"
	Labels    = "HELVE_LABELS"
)

// KindLabel is the label that states the kind of the GPUs, as in Ray.
const KindLabel = "ray.io/accelerator-type"

// Stated are the amounts and labels of a node that were stated. A field that is nil was not.
type Stated struct {
	CPUs   *float64
	Memory *int64 // bytes
	Custom map[string]float64
	Labels map[string]string
}

// ReadStated reads the variables of an environment. The error names the variable. For example, HELVE_RESOURCES is {"licence": 2} or licence=2,gpu_mem=80.
func ReadStated(env []string) (s Stated, err error) {
	for _, name := range []string{NumCPUs, Memory, Resources, Labels} {
		if value, _ := lookup(env, name); value != "" {
			if err := s.Set(name, value); err != nil {
				return Stated{}, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return s, nil
}

// Set reads the value of one of the variables.
func (s *Stated) Set(name, value string) (err error) {
	switch name {
	case NumCPUs:
		n, err := amount(value)
		s.CPUs = &n
		return err
	case Memory:
		n, err := bytesOf(value)
		s.Memory = &n
		return err
	case Labels:
		s.Labels, err = pairs(value, "region=eu,disk=ssd", func(raw json.RawMessage) (text string, err error) {
			return text, json.Unmarshal(raw, &text)
		}, func(text string) (string, error) { return text, nil })
		return err
	case Resources:
		s.Custom, err = pairs(value, `licence=2,gpu_mem=80`, func(raw json.RawMessage) (float64, error) { return amount(string(raw)) }, amount)
		for _, own := range []string{"CPU", "GPU", "memory"} {
			if _, ok := s.Custom[own]; ok && err == nil {
				err = fmt.Errorf("%s has a flag or a variable of its own (--num-cpus, %s, --memory)", own, Setting)
			}
		}
		return err
	}
	return fmt.Errorf("there is no variable %s", name)
}

// amount is a number that is not negative.
func amount(text string) (float64, error) {
	const largest = 1 << 20
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n > largest {
		return 0, fmt.Errorf("must be a number from 0 to %d, is %q", largest, text)
	}
	return n, nil
}

// bytesOf is a number of bytes, or one with KiB, MiB or GiB behind it.
func bytesOf(text string) (int64, error) {
	number, unit := text, int64(1)
	for suffix, u := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = rest, u
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("must be a number of bytes, or one with KiB, MiB or GiB, is %q", text)
	}
	return n * unit, nil
}

// pairs reads name=value,name=value, or a JSON object.
func pairs[V any](text, example string, inJSON func(json.RawMessage) (V, error), plain func(string) (V, error)) (map[string]V, error) {
	all := map[string]V{}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		var object map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &object) != nil {
			return nil, fmt.Errorf("must be a JSON object, or %s, is %q", example, text)
		}
		for _, name := range slices.Sorted(maps.Keys(object)) {
			v, err := inJSON(object[name])
			if err != nil || name == "" {
				return nil, fmt.Errorf("the value %s of %q does not fit: an example is %s", object[name], name, example)
			}
			all[name] = v
		}
		return all, nil
	}
	for _, pair := range strings.Split(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("must be a JSON object, or %s, is %q", example, text)
		}
		v, err := plain(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = v
	}
	return all, nil
}

var kind = regexp.MustCompile(`^Model:\s*(?:NVIDIA |Tesla )*([A-Z]{1,2}[0-9]+[A-Z]*)\b`)

// Kind is the kind of the GPUs of a machine by the files of its driver, as Ray names it, such as "A100"; "" if it is not known, and for GPUs of several kinds. root is the file system of the
// machine.
func Kind(root fs.FS) (found string) {
	const dir = "proc/driver/nvidia/gpus"
	gpus, _ := fs.ReadDir(root, dir) // without the directory there are none
	for _, g := range gpus {
		b, err := fs.ReadFile(root, path.Join(dir, g.Name(), "information"))
		if err != nil {
			return ""
		}
		m := kind.FindSubmatch(b)
		if m == nil || found != "" && found != string(m[1]) {
			return ""
		}
		found = string(m[1])
	}
	return found
}
