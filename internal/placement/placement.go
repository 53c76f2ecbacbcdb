// Package placement decides on which node, and on which devices of it, each replica runs, and says why one has to wait. It is pure: it has no clock, no I/O and no state,
// and the same arguments give the same answer.
//
// A [Node] has amounts of things to give out, and a replica has a [Demand]. [Place] gives nodes and devices to replicas that wait, the first in turn first. For example, node a has two
// GPUs, and shop/Model#1 and shop/Model#2 hold one and a half of them. A replica of chat/Scorer that asks for one GPU gets nothing, and its answer says:
//
//	needs 1 GPU, and 0 of 2 are free: shop/Model#1 holds 1 and shop/Model#2 holds 0.5
//
// Amounts are integers of a ten-thousandth ([Amount]), because the sum of ten floats of 0.1 is not 1. GPUs are single devices: a whole number is that many devices for one
// replica alone, and a part is on one device, which other parts share: 1.5 is one device and a half of another. The parts only count: a process is not kept within its part. For example, with the devices 0 and 1:
//
//	A asks for 0.5  gets device 0
//	B asks for 0.5  gets device 0: a part goes to the device that has the least room that is enough, so that whole devices stay free
//	C asks for 1    gets device 1, the first that is free
//	D asks for 0.5  waits
//
// The node of this process is the only real one today, and tests simulate others. Package ledger has its replicas, and asks [Space] for devices.
package placement

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/spec"
)

// Amount is an amount of a thing in ten-thousandths: 5000 is a half.
type Amount int64

// One is the amount 1, and All says that a node has as much as is asked for, because its amount was not stated: demands are recorded, and no replica waits for it.
const (
	One Amount = 10_000
	All Amount = -1
)

// most bounds an amount that is asked for, so that sums of replicas stay in range.
const most = 1 << 20

// slack is for floats that are a little less than the number that was written, as 0.29 is.
const slack = 1e-6

// AmountOf is a number as an amount, rounded down: seven sevenths fit into one.
func AmountOf(n float64) Amount { return Amount(math.Floor(n*float64(One) + slack)) }

// Float is the amount as a number.
func (a Amount) Float() float64 { return float64(a) / float64(One) }

// String is the amount as people write it: 0.5, 2.
func (a Amount) String() string { return strconv.FormatFloat(a.Float(), 'f', -1, 64) }

// CheckGPUs says what is wrong with a number of GPUs.
func CheckGPUs(n float64) error {
	switch {
	case math.IsNaN(n) || n < 0:
		return fmt.Errorf("must be 0 or more, is %v", n)
	case n > 0 && AmountOf(n) < 1:
		return fmt.Errorf("must be at least %v, is %v", 1/float64(One), n)
	case n > most:
		return fmt.Errorf("must be at most %d, is %v", most, n)
	}
	return nil
}

// Demand is the amounts and labels that one replica asks for. The zero Demand asks for nothing.
type Demand struct {
	CPUs   Amount
	GPUs   Amount
	Memory int64 // bytes
	Custom map[string]Amount
	// Kind is the kind of GPU, such as "A100"; "" for any. A node of which the kind is not known has every kind.
	Kind string
	// Labels must all be met by the labels of the node. Fallback are other selectors, in their order, for when no node with the first ones has room.
	Labels   spec.Selector
	Fallback []spec.Selector
	// PerNode is the largest number of replicas of the deployment on a node; 0 for no limit.
	PerNode int
}

// Zero says that the demand asks for no amount of anything.
func (d *Demand) Zero() bool {
	for _, a := range d.Custom {
		if a > 0 {
			return false
		}
	}
	return d.CPUs == 0 && d.GPUs == 0 && d.Memory == 0
}

// Device is one GPU.
type Device struct {
	Name   string // for CUDA_VISIBLE_DEVICES
	Memory int64  // bytes; 0 if it is not known
}

// Node has the resources and labels of one machine.
type Node struct {
	Name    string
	CPUs    Amount // [All] if it was not stated
	Memory  int64  // bytes; less than 0 if it was not stated
	Devices []Device
	Kind    string // of the GPUs; "" if it is not known
	Custom  map[string]Amount
	// AnyCustom says that no custom resources were stated: the node has as much of each as is asked for.
	AnyCustom bool
	Labels    map[string]string
	// Draining says that no replica is placed here.
	Draining bool
}

// Unstated is a node of which nothing was stated: it gives out its devices, and all else is recorded.
func Unstated(name string, devices ...string) Node {
	n := Node{Name: name, CPUs: All, Memory: int64(All), AnyCustom: true}
	for _, d := range devices {
		n.Devices = append(n.Devices, Device{Name: d})
	}
	return n
}

// Holding has the resources that one replica holds. It is written into the state of a node.
type Holding struct {
	Holder     string            `json:"holder"`     // id of the replica
	Deployment string            `json:"deployment"` // for messages, behind its application: shop/Ranker
	Node       string            `json:"node,omitempty"`
	Amount     float64           `json:"amount"`  // GPUs
	Devices    []string          `json:"devices"` // names for CUDA_VISIBLE_DEVICES
	CPUs       Amount            `json:"cpus,omitempty"`
	Memory     int64             `json:"memory,omitempty"`
	Custom     map[string]Amount `json:"custom,omitempty"`
	PerNode    int               `json:"-"`
	// Used is the memory of GPUs that the process of the replica uses, in bytes; 0 if it is not known.
	Used uint64 `json:"-"`
}

// HoldingOf is the holding of a replica with a demand, once it has devices.
func HoldingOf(holder, deployment string, d Demand, devices []string) Holding {
	return Holding{
		Holder: holder, Deployment: deployment, Amount: d.GPUs.Float(), Devices: devices, CPUs: d.CPUs, Memory: d.Memory, Custom: maps.Clone(d.Custom), PerNode: d.PerNode,
	}
}

// Amounts are the amounts of the holding that are not 0, by the names of [helvetype.Status].Resources.
func (h *Holding) Amounts() map[string]float64 {
	all := map[string]float64{}
	for name, n := range map[string]float64{helvetype.ResourceCPU: h.CPUs.Float(), helvetype.ResourceGPU: h.Amount, helvetype.ResourceMemory: float64(h.Memory)} {
		if n > 0 {
			all[name] = n
		}
	}
	for name, a := range h.Custom {
		if a > 0 {
			all[name] = a.Float()
		}
	}
	return all
}

// names are the names of a set of amounts, sorted.
func names(of map[string]Amount) []string { return slices.Sorted(maps.Keys(of)) }
