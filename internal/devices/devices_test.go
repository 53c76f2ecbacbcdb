package devices

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestPacking: parts share a device, whole numbers do not, and the first device that is free is given first.
func TestPacking(t *testing.T) {
	t.Parallel()
	s := New([]string{"0", "1", "2"})
	for i, step := range []struct {
		amount float64
		want   string
	}{{0.5, "0"}, {1, "1"}, {0.5, "0"}, {0.25, "2"}, {0.75, "2"}, {0, ""}} {
		h, err := s.Take(fmt.Sprint(i), "D", step.amount)
		if err != nil || strings.Join(h.Devices, ",") != step.want {
			t.Fatalf("step %d: %v, %v; want %q", i, h.Devices, err, step.want)
		}
	}
	s.Free("1")
	s.Free("1")
	if h, err := s.Take("again", "D", 1); err != nil || h.Devices[0] != "1" {
		t.Error(h, err)
	}
}

// TestTenths: ten tenths fill a device, and three thirds fit.
func TestTenths(t *testing.T) {
	t.Parallel()
	for n, amount := range map[int]float64{10: 0.1, 3: 1.0 / 3, 7: 1.0 / 7} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			s := New([]string{"0"})
			for i := range n {
				if _, err := s.Take(fmt.Sprint(i), "D", amount); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Take("more", "D", amount); err == nil {
				t.Error("one more fits")
			}
		})
	}
}

// TestShort: the error has the counts and the deployments that hold devices.
func TestShort(t *testing.T) {
	t.Parallel()
	s := New([]string{"0", "1"})
	s.Take("a1", "A", 0.5) //nolint:errcheck // the counts below say so
	s.Take("a2", "A", 0.5) //nolint:errcheck
	s.Take("b1", "B", 1)   //nolint:errcheck
	for amount, want := range map[float64]string{
		1:   "wants 1 GPU, and 0 of 2 are free; held by A (1), B (1)",
		0.5: "wants 0.5 of a GPU, and no GPU has that much free: 2 GPUs, 0 free; held by A (1), B (1)",
		3:   "wants 3 GPUs, and this node has 2",
	} {
		_, err := s.Take("c", "C", amount)
		short, ok := errors.AsType[*ShortError](err)
		if !ok || err.Error() != want || short.Never() != (amount == 3) {
			t.Errorf("%v: %v", amount, err)
		}
	}
	if _, err := New(nil).Take("c", "C", 1); err == nil || !strings.Contains(err.Error(), "this node has none (HELVE_GPUS=N") {
		t.Error(err)
	}
}

// TestKeep: the devices of a replica of the node before are not given to another before they are free, and a device that the node does not
// have any more is not given at all.
func TestKeep(t *testing.T) {
	t.Parallel()
	s := New([]string{"0"})
	s.Keep(Holding{"old", "D", 2, []string{"0", "7"}})
	if _, err := s.Take("new", "D", 0.1); err == nil {
		t.Error("device 0 was given twice")
	}
	s.Free("old")
	if h, err := s.Take("new", "D", 1); err != nil || h.Devices[0] != "0" {
		t.Error(h, err)
	}
	if _, err := s.Take("more", "D", 1); err == nil {
		t.Error("device 7 was given")
	}
}

// TestFits: the devices of the replicas that would give theirs back count as free, and stay theirs.
func TestFits(t *testing.T) {
	t.Parallel()
	s := New([]string{"0", "1"})
	s.Take("a", "A", 1)   //nolint:errcheck // the answers below say so
	s.Take("b", "B", 0.5) //nolint:errcheck
	for _, x := range []struct {
		amount  float64
		without []string
		want    bool
	}{
		{1, nil, false}, {0.5, nil, true}, {1, []string{"a"}, true}, {1, []string{"b"}, true}, {2, []string{"a"}, false}, {2, []string{"a", "b"}, true},
		{0, nil, true}, {0.6, []string{"c"}, false},
	} {
		if got := s.Fits(x.amount, x.without); got != x.want {
			t.Errorf("%v without %v: %v", x.amount, x.without, got)
		}
	}
	if len(s.Held()) != 2 {
		t.Error(s.Held())
	}
}

// TestAmounts: a number that is neither a part nor whole is refused.
func TestAmounts(t *testing.T) {
	t.Parallel()
	for amount, ok := range map[float64]bool{0: true, 0.5: true, 1: true, 8: true, 1.5: false, -1: false, 1e-9: false, 1e30: false} {
		if err := CheckAmount(amount); (err == nil) != ok {
			t.Errorf("%v: %v", amount, err)
		}
	}
}

// TestRandom: over random sequences no device is given beyond its whole, a whole number shares with no other holder, as many devices are
// given as were asked for, and a request fails only when no choice of devices could meet it.
func TestRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var names []string
		for i := range r.IntN(5) {
			names = append(names, fmt.Sprint("GPU-", i))
		}
		s := New(names)
		held := map[string]Holding{}
		use := func(name string) (n int) {
			for _, h := range held {
				if slices.Contains(h.Devices, name) {
					n += units(h.Amount)
				}
			}
			return n
		}
		for step := range 200 {
			if r.IntN(3) == 0 {
				for holder := range held {
					s.Free(holder)
					delete(held, holder)
					break
				}
				continue
			}
			amount := []float64{0, 0.1, 0.25, 1.0 / 3, 0.5, 0.9, 1, 2, 3}[r.IntN(9)]
			enough := 0
			for _, name := range names {
				if use(name)+units(amount) <= unit {
					enough++
				}
			}
			holder := fmt.Sprint(step)
			h, err := s.Take(holder, "D", amount)
			if fits := enough >= max(int(amount), 1) || amount == 0; (err == nil) != fits {
				t.Fatalf("seed %d step %d: %v of %v with %v: %v", seed, step, amount, names, held, err)
			}
			if err != nil {
				continue
			}
			want := int(amount)
			if amount > 0 && amount < 1 {
				want = 1
			}
			if len(h.Devices) != want || len(slices.Compact(slices.Sorted(slices.Values(h.Devices)))) != want {
				t.Fatalf("seed %d step %d: %v for %v", seed, step, h.Devices, amount)
			}
			if amount > 0 {
				held[holder] = h
			}
			for _, name := range names {
				if use(name) > unit {
					t.Fatalf("seed %d step %d: %s is given to %v", seed, step, name, held)
				}
			}
			if len(s.Held()) != len(held) {
				t.Fatalf("seed %d step %d: %v, want %v", seed, step, s.Held(), held)
			}
		}
		for holder := range held {
			s.Free(holder)
		}
		if _, err := s.Take("all", "D", float64(len(names))); err != nil || len(s.used) > len(names) {
			t.Fatalf("seed %d: after the last was freed: %v, %v", seed, err, s.used)
		}
	}
}

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
