package devices

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestFind: the files of the driver, the variable of CUDA and the setting say which GPUs there are.
func TestFind(t *testing.T) {
	t.Parallel()
	dev := fstest.MapFS{"dev/nvidia0": {}, "dev/nvidia1": {}, "dev/nvidia7": {}, "dev/nvidiactl": {}, "dev/nvidia-uvm": {}}
	proc := fstest.MapFS{"proc/driver/nvidia/gpus/0000:01:00.0/information": {}, "proc/driver/nvidia/gpus/0000:02:00.0/information": {}}
	none := fstest.MapFS{}
	for name, c := range map[string]struct {
		root fstest.MapFS
		env  []string
		want string
	}{
		"device files":             {dev, nil, "0,1,2"},
		"the driver's directory":   {proc, nil, "0,1"},
		"none":                     {none, nil, ""},
		"stated":                   {none, []string{"HELVE_GPUS=2"}, "0,1"},
		"stated as none":           {dev, []string{"HELVE_GPUS=0"}, ""},
		"restricted":               {dev, []string{"CUDA_VISIBLE_DEVICES=2, 0"}, "2,0"},
		"by UUID":                  {dev, []string{"CUDA_VISIBLE_DEVICES=GPU-8932,MIG-12"}, "GPU-8932,MIG-12"},
		"an index of no device":    {dev, []string{"CUDA_VISIBLE_DEVICES=1,9,0"}, "1"},
		"no name":                  {dev, []string{"CUDA_VISIBLE_DEVICES=1,-1,0"}, "1"},
		"empty":                    {dev, []string{"CUDA_VISIBLE_DEVICES="}, ""},
		"twice":                    {dev, []string{"CUDA_VISIBLE_DEVICES=1,1,0"}, "1"},
		"stated and restricted":    {none, []string{"HELVE_GPUS=1", "CUDA_VISIBLE_DEVICES=5,6"}, "5"},
		"restricted where none is": {none, []string{"CUDA_VISIBLE_DEVICES=0"}, ""},
		"the later counts":         {none, []string{"HELVE_GPUS=1", "HELVE_GPUS=3"}, "0,1,2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Find(c.root, c.env)
			if err != nil || strings.Join(got, ",") != c.want {
				t.Error(got, err)
			}
		})
	}
	for _, text := range []string{"many", "-1", "1e9", "99999"} {
		if _, err := Find(none, []string{"HELVE_GPUS=" + text}); err == nil || !strings.Contains(err.Error(), "HELVE_GPUS") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzParseVisible: no two names are equal, and none has a comma.
func FuzzParseVisible(f *testing.F) {
	for _, seed := range []string{"", "0,1", "GPU-1,GPU-1", " 3 ,x", "-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		names := parseVisible(text)
		for i, name := range names {
			if name == "" || strings.Contains(name, ",") || slices.Contains(names[:i], name) {
				t.Errorf("%q: %q", text, names)
			}
		}
	})
}
