package tables

import (
	"testing"

	"github.com/helve-serve/helve/helvetype"
)

func TestResources(t *testing.T) {
	t.Parallel()
	of := func(total, held, used float64) helvetype.Resource {
		return helvetype.Resource{Total: &total, Held: held, Free: new(total - held), Used: used}
	}
	for want, all := range map[string]map[string]helvetype.Resource{
		"": {"CPU": {Held: 3, Used: 0.2}, "memory": {Held: 1 << 30}},
		"CPU 2.5 of 4 free (0.33 in use), GPU 0 of 2 free, memory 1.0 GiB of 4.0 GiB free (200 MiB in use), disk 1 of 1 free, licence 1 of 2 free": {
			"licence": of(2, 1, 0), "disk": of(1, 0, 0), "memory": of(4<<30, 3<<30, 200<<20), "GPU": of(2, 2, 0), "CPU": of(4, 1.5, 1.0/3),
		},
		"CPU 3 recorded, GPU 1 of 2 free": {"CPU": {Held: 3, Used: 0.2}, "GPU": of(2, 1, 0)},
	} {
		if got := Resources(all); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
