package simulate

import (
	"fmt"
	"math"
	"strings"

	"github.com/helve-serve/helve/internal/autoscale"
)

// Row is a shape with the results of both autoscalers.
type Row struct {
	Shape           Shape
	Ours, Reference Result
}

// Compare runs both autoscalers against a load.
func Compare(load Load, m Model, c autoscale.Config) (ours, reference Result) {
	return Run(load, m, c, Ours(c)), Run(load, m, c, Reference(c))
}

// Markdown is the table of docs/autoscaling.md. Each cell has the number of Helve, and after a bar the number of the reference.
func Markdown(rows []Row) string {
	var b strings.Builder
	b.WriteString("| load | to capacity, s | overshoot | cost | changes | wait p99, s |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		o, f := &r.Ours.Summary, &r.Reference.Summary
		fmt.Fprintf(&b, "| `%s`: %s | %.0f · %.0f | %s · %s | %.2f · %.2f | %d · %d | %s · %s |\n", r.Shape.Name, r.Shape.About,
			o.ToCapacity, f.ToCapacity, percent(o.Overshoot), percent(f.Overshoot), o.Cost, f.Cost, o.Changes, f.Changes, wait(o.WaitP99), wait(f.WaitP99))
	}
	o, f := middle(rows, func(r Row) Summary { return r.Ours.Summary }), middle(rows, func(r Row) Summary { return r.Reference.Summary })
	fmt.Fprintf(&b, "| **geometric mean** | %.0f · %.0f | | %.2f · %.2f | %.0f · %.0f | |\n", o[0], f[0], o[1], f[1], o[2], f[2])
	return b.String()
}

// middle has the geometric means of times to capacity, costs and changes.
func middle(rows []Row, of func(Row) Summary) (out [3]float64) {
	for _, r := range rows {
		s := of(r)
		for i, x := range [...]float64{s.ToCapacity, s.Cost, float64(s.Changes)} {
			out[i] += math.Log(max(x, 1e-3)) / float64(len(rows))
		}
	}
	for i := range out {
		out[i] = math.Exp(out[i])
	}
	return out
}

func percent(x float64) string {
	n := math.Round(x * 100)
	if n == 0 {
		n = 0 // no -0
	}
	return fmt.Sprintf("%.0f %%", n)
}

func wait(x float64) string { return fmt.Sprintf("%.2f", x) }

// Text compares two results for a terminal of 80 columns.
func Text(ours, reference Result) string {
	o, f := &ours.Summary, &reference.Summary
	var b strings.Builder
	line := func(name, ours, reference string) { fmt.Fprintf(&b, "%-46s%12s%16s\n", name, ours, reference) }
	line("", "Helve", "Ray Serve")
	line("longest time below 9/10 of the optimum", seconds(o.ToCapacity), seconds(f.ToCapacity))
	line("most replicas, against those of the optimum", signed(o.Overshoot), signed(f.Overshoot))
	line("replica-seconds", fmt.Sprintf("%.0f", o.ReplicaSeconds), fmt.Sprintf("%.0f", f.ReplicaSeconds))
	line(fmt.Sprintf("  for each of the optimum (%.0f)", o.OptimumSeconds), fmt.Sprintf("%.2f", o.Cost), fmt.Sprintf("%.2f", f.Cost))
	line("changes of the number of replicas", fmt.Sprint(o.Changes), fmt.Sprint(f.Changes))
	line("wait of a call until it executes, median", seconds(o.WaitP50), seconds(f.WaitP50))
	line("  99th percentile", seconds(o.WaitP99), seconds(f.WaitP99))
	line("  longest", seconds(o.WaitMax), seconds(f.WaitMax))
	return b.String()
}

func seconds(x float64) string {
	if x >= 10 {
		return fmt.Sprintf("%.0f s", x)
	}
	return fmt.Sprintf("%.2f s", x)
}

func signed(x float64) string { return fmt.Sprintf("%+.0f %%", x*100+0) }
