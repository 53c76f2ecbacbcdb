package devices

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// TestStated: the forms of the variables, and their mistakes.
func TestStated(t *testing.T) {
	t.Parallel()
	s, err := ReadStated([]string{"HELVE_NUM_CPUS=1.5", "HELVE_MEMORY=2GiB", `HELVE_RESOURCES={"licence": 2, "gpu_mem": 80.5}`, "HELVE_LABELS=region=eu, disk=ssd"})
	if err != nil || *s.CPUs != 1.5 || *s.Memory != 2<<30 || fmt.Sprint(s.Custom, s.Labels) != "map[gpu_mem:80.5 licence:2] map[disk:ssd region:eu]" {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = ReadStated([]string{"HELVE_RESOURCES=licence=2", `HELVE_LABELS={"region": "eu"}`, "HELVE_NUM_CPUS=", "HELVE_MEMORY=1024"})
	if err != nil || s.CPUs != nil || *s.Memory != 1024 || fmt.Sprint(s.Custom, s.Labels) != "map[licence:2] map[region:eu]" {
		t.Errorf("%+v, %v", s, err)
	}
	for name, values := range map[string][]string{
		NumCPUs: {"many", "-1", "NaN", "1e9"}, Memory: {"2GB", "-1", "9999999999GiB"}, Resources: {"licence", "=2", "licence=x", `{"licence": "2x"}`, `{"licence"`, "CPU=2", "GPU=1"},
		Labels: {"eu", `{"region": 1}`, "=eu"},
	} {
		for _, value := range values {
			if _, err := ReadStated([]string{name + "=" + value}); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
				t.Errorf("%s=%s: %v", name, value, err)
			}
		}
	}
}

// TestKind: the driver names the kind of the GPUs; several kinds, and a name of another form, are not known.
func TestKind(t *testing.T) {
	t.Parallel()
	for want, models := range map[string][]string{
		"H200": {"NVIDIA H200", "NVIDIA H200"}, "A100": {"NVIDIA A100-SXM4-80GB"}, "V100": {"Tesla V100-PCIE-16GB"}, "A10G": {"NVIDIA A10G"}, "": {"NVIDIA GeForce RTX 4090"},
	} {
		root := fstest.MapFS{}
		for i, m := range models {
			root[fmt.Sprintf("proc/driver/nvidia/gpus/0000:0%d:00.0/information", i)] = &fstest.MapFile{Data: []byte("Model: \t\t " + m + "\nIRQ: 16\n")}
		}
		if got := Kind(root); got != want {
			t.Errorf("%v: %q", models, got)
		}
	}
	mixed := fstest.MapFS{
		"proc/driver/nvidia/gpus/0/information": {Data: []byte("Model: NVIDIA H200\n")}, "proc/driver/nvidia/gpus/1/information": {Data: []byte("Model: NVIDIA L4\n")},
	}
	if got := Kind(mixed) + Kind(fstest.MapFS{}); got != "" {
		t.Error(got)
	}
}
