package planner

import "math"

// Capacity is the number of replicas at a target capacity in percent, nil for 100: rounded, and at least one if both are more than 0. For example, 3 replicas
// at 50 percent are 2, and at 1 percent 1.
func Capacity(replicas int, percent *float64) int {
	switch {
	case percent == nil:
		return replicas
	case replicas <= 0 || *percent <= 0:
		return 0
	}
	return max(int(math.Floor(float64(replicas)**percent/100+0.5)), 1)
}
