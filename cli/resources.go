package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/devices"
)

// stated is a flag that states an amount or the labels of the node. Its value is in the environment, where the node and the nodes of Python programs read it.
type stated struct{ variable, value string }

func (s *stated) String() string { return s.value }

func (s *stated) Type() string {
	return map[string]string{devices.NumCPUs: "number", devices.Memory: "size", devices.Resources: "amounts", devices.Labels: "labels"}[s.variable]
}

func (s *stated) Set(text string) error {
	if err := new(devices.Stated).Set(s.variable, text); err != nil {
		return err
	}
	s.value = text
	return os.Setenv(s.variable, text)
}

// resourceFlags are the flags that state the resources of the node.
func resourceFlags(c *cobra.Command) {
	c.Flags().Var(&stated{variable: devices.NumCPUs}, "num-cpus", "CPUs that the node gives out to replicas (without the flag num_cpus is recorded, and no replica waits)")
	c.Flags().Var(&stated{variable: devices.Memory}, "memory", "memory that the node gives out to replicas, in bytes or as 16GiB (without the flag it is recorded)")
	c.Flags().Var(&stated{variable: devices.Resources}, "resources", `other resources that the node gives out, as licence=2,gpu_mem=80 or as a JSON object (without the flag they are recorded)`)
	c.Flags().Var(&stated{variable: devices.Labels}, "labels", "labels of the node for label_selector, as region=eu,disk=ssd or as a JSON object")
}
