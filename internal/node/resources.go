package node

import (
	"os"

	"github.com/helve-serve/helve/internal/devices"
	"github.com/helve-serve/helve/internal/placement"
)

// resources is what the node has to give out: what was stated, and the GPUs of the machine.
func resources(s Settings) placement.Node {
	env := s.Program.Env
	if env == nil {
		env = os.Environ()
	}
	names, err := devices.Find(os.DirFS("/"), env)
	if err != nil {
		s.Logger.Error("the node goes on without GPUs", "error", err)
	}
	return placement.Unstated("", names...)
}
