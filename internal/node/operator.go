package node

import (
	"github.com/helve-serve/helve/internal/control"
	"github.com/helve-serve/helve/internal/profiler"
)

// newOperator makes the operator of the node, whose controller and restorer are there.
func (n *Node) newOperator() *control.Operator {
	return control.NewOperator(control.Settings{Node: n, Log: n.log, Target: n.Target(), Restorer: n.restorer, Claims: &n.claims, Program: n.set.Program, Events: n.events, Trace: n.trace, Profiler: profiler.New(n.ctx, n), Lines: n.lines, Access: n.access, Secrets: n.secrets})
}

// Operator does what operators ask of the node.
func (n *Node) Operator() *control.Operator { return n.operator }
