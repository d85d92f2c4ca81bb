package bylab

import (
	"context"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/rehearse"
)

var _ reconcile.Verifier = (*Executor)(nil)

// Verify implements [reconcile.Verifier].
func (e *Executor) Verify(ctx context.Context, _ plan.Planned, begun []reconcile.UnverifiedAction) ([]reconcile.Action, error) {
	v, err := e.observe(ctx)
	if err != nil {
		return nil, err
	}
	l := layout{Executor: e, view: v}
	for _, b := range begun {
		a := reconcile.Action{ID: b.ID, What: b.What, Group: b.Group, Node: b.Node, Canary: b.Canary, Replaces: b.Replaces}
		if strings.HasPrefix(b.ID, "join ") {
			if !v.hasBooted(b.Node) {
				continue // it was removed again; Actions returns the join anew
			}
			a.Abort = l.removeUnjoined(b.Node)
		}
		l.add(a)
	}
	return l.actions, l.err
}

// gateRef names a gate: its kind, and the node that it is about, if any.
type gateRef struct {
	kind rehearse.GateKind
	node string
}

// gates returns an action's gates, derived from its ID, and those common to all
// actions: that the lab is healthy and every path works.
func (l *layout) gates(id string) ([]reconcile.Gate, error) {
	var gates []reconcile.Gate
	for _, w := range append(l.actionGates(id), gateRef{kind: rehearse.Healthy}, gateRef{kind: rehearse.AllWork}) {
		gate, err := l.lab.Gate(l.Cluster, w.kind, w.node)
		if err != nil {
			return nil, err
		}
		gates = append(gates, gate)
	}
	return gates, nil
}

// actionGates returns the gates of one kind of action.
func (l *layout) actionGates(id string) []gateRef {
	verb, node, _ := strings.Cut(id, " ")
	switch verb {
	case "serve":
		return []gateRef{{rehearse.Serves, node}}
	case "expose":
		return []gateRef{{kind: rehearse.Balanced}}
	case "prove":
		return []gateRef{{rehearse.Proven, node}}
	case "publish", "withdraw":
		switch {
		case !l.bridges():
			return nil
		case verb == "publish":
			return []gateRef{{kind: rehearse.Bridged}}
		}
		return []gateRef{{kind: rehearse.Unbridged}}
	case "join":
		return []gateRef{{rehearse.DaemonReady, node}, {rehearse.WaysWork, node}, {rehearse.NodeReady, node}}
	case "leave":
		return []gateRef{{rehearse.NodeGone, node}}
	case "replace":
		return l.replacedGates(node)
	case "close-ports":
		return []gateRef{{kind: rehearse.AllQuiet}}
	}
	return nil
}

// replacedGates returns the gates of a control-plane node whose programs were
// exchanged.
func (l *layout) replacedGates(node string) []gateRef {
	gates := []gateRef{{rehearse.Gossips, node}}
	if l.declared.Quiet {
		gates = []gateRef{{rehearse.Quiet, node}, {rehearse.OwnsHosts, node}}
	}
	if slices.ContainsFunc(l.Nodes, func(n labctl.NodeStatus) bool { return n.Name == node && n.Serves }) {
		gates = append(gates, gateRef{rehearse.Serves, node})
	}
	return gates
}
