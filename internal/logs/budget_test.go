package logs

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// TestBudgets: lines are kept as far as the budgets of the node and of a deployment allow, and wrong budgets name their fields.
func TestBudgets(t *testing.T) {
	t.Parallel()
	for b, want := range map[Budgets]string{
		{}: "", {Node: 1 << 20}: "", {Node: 64 << 20, Deployment: 64 << 20}: "", {Deployment: 8 << 20}: "",
		{Node: 1<<20 - 1}:                 "LogMemory: must be from 1048576 to ",
		{Node: -1}:                        "LogMemory: must be from",
		{Deployment: 8<<20 + 1}:           "LogMemoryPerDeployment: must be from 65536 to 8388608 bytes, which all deployments have together, is 8388609",
		{Node: 1 << 20, Deployment: 1000}: "LogMemoryPerDeployment: must be from 65536 to 1048576",
	} {
		if err := b.Check(); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", b, err)
		}
	}
	kept := func(b Budgets) (ofOne, ofAll int) {
		r := NewRingOf(b)
		for i := range 200_000 {
			replica := "A#" + string(rune('a'+i%16))
			r.Write(&Record{Time: time.Unix(int64(i), 0), Level: slog.LevelInfo, From: Writer{"shop", "A", replica}, Text: strings.Repeat("x", 36)})
		}
		count := func(q helvetype.LogQuery) (n int) {
			r.Read(t.Context(), q, func(*helvetype.LogLine, uint64) error { n++; return nil }) //nolint:errcheck // it has none
			return n
		}
		return count(helvetype.LogQuery{Replica: "A#a"}), count(helvetype.LogQuery{Deployment: "A"})
	}
	const line = 100 // bytes that one costs
	for _, b := range []Budgets{{}, {Node: 1 << 20}, {Node: 16 << 20}, {Deployment: 512 << 10}} {
		group := b.Deployment
		if group == 0 {
			if group = b.Node / 4; group == 0 {
				group = 2 << 20
			}
		}
		one, all := kept(b)
		if most := int(group / line); all > most || all < most/2 || one > most/8 {
			t.Errorf("%+v: %d lines of one replica and %d of the deployment, at most %d", b, one, all, most)
		}
	}
}
