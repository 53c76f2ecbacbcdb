// Package devices gives the GPUs of a node to the replicas on it. A [Set] has the devices in their order and the replicas that hold them.
//
// A replica asks for a number of devices. A whole number is that many devices for it alone. A number between 0 and 1 is a part of one
// device, which it shares with other parts. The parts only count: a process is not kept within its part. For example, on a node with
// the devices 0 and 1:
//
//	A asks for 0.5  gets device 0
//	B asks for 0.5  gets device 0: a part goes to the device that has the least room for it
//	C asks for 1    gets device 1, the first that is free
//	D asks for 0.5  gets nothing: "wants 0.5 of a GPU, and no GPU has that much free: 2 GPUs, 0 free; held by
//	                A (0.5), B (0.5), C (1)"
//
// A device comes back to the set when the process of its replica is gone ([Set.Free]), never before: the memory of a GPU is free only then.
package devices

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// unit is the smallest part of a device. The parts are counted in integers, so that ten tenths fill a device: the sum of ten floats
// of 0.1 is not 1.
const unit = 10_000

// Holding is the devices that one replica holds. It is written into the state of the node.
type Holding struct {
	Holder     string   `json:"holder"`     // id of the replica
	Deployment string   `json:"deployment"` // for messages, behind its application: shop/Ranker
	Amount     float64  `json:"amount"`     // a whole number of devices, or a part of one
	Devices    []string `json:"devices"`    // names for CUDA_VISIBLE_DEVICES
}

// Set is the devices of a node. Its methods may be called from any goroutine.
type Set struct {
	mu      sync.Mutex
	names   []string           // in the order in which they are given
	used    map[string]int     // units of a device that are held
	holders map[string]Holding // by replica
}

// New makes a set of devices that are free.
func New(names []string) *Set {
	return &Set{names: slices.Clone(names), used: map[string]int{}, holders: map[string]Holding{}}
}

// Len is the number of devices, free or not.
func (s *Set) Len() int { return len(s.names) }

// CheckAmount says what is wrong with an amount of devices.
func CheckAmount(amount float64) error {
	switch {
	case math.IsNaN(amount) || amount < 0:
		return fmt.Errorf("must be 0 or more, is %v", amount)
	case amount > 1 && amount != math.Trunc(amount):
		return fmt.Errorf("must be a whole number or less than 1, is %v", amount)
	case amount > 0 && units(amount) < 1:
		return fmt.Errorf("must be at least %v, is %v", 1.0/unit, amount)
	case amount > 1<<20:
		return fmt.Errorf("must be at most %d, is %v", 1<<20, amount)
	}
	return nil
}

// ShortError says that a set has not as many free devices as a replica asked for.
type ShortError struct {
	Wanted  float64
	Devices int       // of the node
	Free    int       // devices that no replica holds a part of
	Held    []Holding // one for each deployment, without a holder
}

func (e *ShortError) Error() string {
	wants := fmt.Sprintf("wants %s, and %d of %d are free", gpus(e.Wanted), e.Free, e.Devices)
	if e.Wanted < 1 {
		wants = fmt.Sprintf("wants %s, and no GPU has that much free: %s, %d free", gpus(e.Wanted), gpus(float64(e.Devices)), e.Free)
	}
	switch {
	case e.Devices == 0:
		return fmt.Sprintf("wants %s, and this node has none (HELVE_GPUS=N states a number)", gpus(e.Wanted))
	case int(math.Ceil(e.Wanted)) > e.Devices:
		return fmt.Sprintf("wants %s, and this node has %d", gpus(e.Wanted), e.Devices)
	case len(e.Held) == 0:
		return wants
	}
	var held []string
	for _, h := range e.Held {
		held = append(held, fmt.Sprintf("%s (%s)", h.Deployment, number(h.Amount)))
	}
	return wants + "; held by " + strings.Join(held, ", ")
}

// Never says that the node has too few devices even when all are free.
func (e *ShortError) Never() bool { return int(math.Ceil(e.Wanted)) > e.Devices }

func gpus(n float64) string {
	switch {
	case n == 1:
		return "1 GPU"
	case n < 1 && n > 0:
		return number(n) + " of a GPU"
	}
	return number(n) + " GPUs"
}

// number writes an amount without the error of sums of floats.
func number(n float64) string {
	return strconv.FormatFloat(math.Round(n*unit)/unit, 'f', -1, 64)
}

// Take gives devices to a replica that holds none: whole devices in their order, and a part on the device with the least room
// that is enough. An amount of 0 takes nothing. The error is a [*ShortError] if too few are free, and the set is as before.
func (s *Set) Take(holder, deployment string, amount float64) (Holding, error) {
	h := Holding{Holder: holder, Deployment: deployment, Amount: amount, Devices: []string{}}
	if err := CheckAmount(amount); err != nil {
		return Holding{}, err
	}
	if amount == 0 {
		return h, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.holders[holder]; ok {
		return Holding{}, errors.New("replica " + holder + " holds devices already")
	}
	h.Devices = s.find(amount, s.used)
	if h.Devices == nil {
		return Holding{}, s.shortLocked(amount)
	}
	s.hold(h)
	return h, nil
}

// Check says whether the node has an amount of devices for each of some replicas at all, free or not.
func (s *Set) Check(amount float64, replicas int) error {
	if err := CheckAmount(amount); err != nil {
		return err
	}
	if e := (&ShortError{Wanted: amount, Devices: len(s.names)}); e.Never() {
		return e
	}
	if room := Capacity(len(s.names), amount); room >= 0 && replicas > room {
		return fmt.Errorf("%d replicas want %s each, and this node has %d, enough for %d of them", replicas, gpus(amount), len(s.names), room)
	}
	return nil
}

// Fits says whether an amount would be free if some replicas gave their devices back. For example, of two devices A and B hold one each: 2 fit
// without A and B, and not without A alone.
func (s *Set) Fits(amount float64, without []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := maps.Clone(s.used)
	for _, holder := range without {
		h := s.holders[holder]
		for _, name := range h.Devices {
			used[name] -= units(h.Amount)
		}
	}
	return amount == 0 || s.find(amount, used) != nil
}

// find picks the devices for an amount; nil if too few are free. used has the units that are held of each.
func (s *Set) find(amount float64, used map[string]int) []string {
	if amount < 1 {
		best := -1
		for i, name := range s.names {
			if used[name]+units(amount) <= unit && (best < 0 || used[name] > used[s.names[best]]) {
				best = i
			}
		}
		if best < 0 {
			return nil
		}
		return s.names[best : best+1 : best+1]
	}
	var found []string
	for _, name := range s.names {
		if used[name] == 0 && len(found) < int(amount) {
			found = append(found, name)
		}
	}
	if len(found) < int(amount) {
		return nil
	}
	return found
}

// units is the part of each device of a holding, rounded down: seven sevenths fit on a device. The small summand is for 0.29, of which
// the nearest float is a little less.
func units(amount float64) int { return int(min(amount, 1)*unit + 1e-6) }

func (s *Set) hold(h Holding) {
	s.holders[h.Holder] = h
	for _, name := range h.Devices {
		s.used[name] += units(h.Amount)
	}
}

// Keep notes devices that a replica of the node before holds. They are its own until its process is gone, even if the set has
// changed meanwhile: a device that the set does not have is noted, and is given to no other.
func (s *Set) Keep(h Holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.holders[h.Holder]; !ok {
		s.hold(h)
	}
}

// Free takes the devices of a replica back. A replica that holds none is no mistake.
func (s *Set) Free(holder string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.holders[holder].Devices {
		if s.used[name] -= units(s.holders[holder].Amount); s.used[name] == 0 {
			delete(s.used, name)
		}
	}
	delete(s.holders, holder)
}

// Holds says whether a replica holds a device.
func (s *Set) Holds(holder string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.holders[holder]
	return ok
}

// Held lists the holdings in the order of their replicas.
func (s *Set) Held() []Holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heldLocked()
}

func (s *Set) heldLocked() []Holding {
	all := make([]Holding, 0, len(s.holders))
	for _, h := range s.holders {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Deployment, b.Deployment), cmp.Compare(a.Holder, b.Holder))
	})
	return all
}

func (s *Set) shortLocked(amount float64) *ShortError {
	e := &ShortError{Wanted: amount, Devices: len(s.names)}
	for _, name := range s.names {
		if s.used[name] == 0 {
			e.Free++
		}
	}
	for _, h := range s.heldLocked() {
		if n := len(e.Held); n > 0 && e.Held[n-1].Deployment == h.Deployment {
			e.Held[n-1].Amount += h.Amount
		} else {
			e.Held = append(e.Held, Holding{Deployment: h.Deployment, Amount: h.Amount})
		}
	}
	return e
}
