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

// Verify lays out the gates of actions that were done and not proven.
func (e *Executor) Verify(ctx context.Context, _ plan.Planned, begun []reconcile.Begun) ([]reconcile.Action, error) {
	v, err := e.see(ctx)
	if err != nil {
		return nil, err
	}
	l := layer{Executor: e, view: v}
	for _, b := range begun {
		a := reconcile.Action{ID: b.ID, What: b.What, Group: b.Group, Node: b.Node, Canary: b.Canary, Replaces: b.Replaces}
		if strings.HasPrefix(b.ID, "join ") {
			if !v.booted(b.Node) {
				continue // it was taken away again, and what is left begins with it
			}
			a.Abort = l.takeAway(b.Node)
		}
		l.add(a)
	}
	return l.actions, l.err
}

// wants is a gate that an action has: its kind, and the node that it is about.
type wants struct {
	kind rehearse.GateKind
	node string
}

// gates are what has to hold behind an action, which follows from its ID; and
// behind each one, that nobody is worse off.
func (l *layer) gates(id string) ([]reconcile.Gate, error) {
	var gates []reconcile.Gate
	for _, w := range append(l.own(id), wants{kind: rehearse.Healthy}, wants{kind: rehearse.AllWork}) {
		gate, err := l.lab.Gate(l.Cluster, w.kind, w.node)
		if err != nil {
			return nil, err
		}
		gates = append(gates, gate)
	}
	return gates, nil
}

// own are the gates of one kind of action.
func (l *layer) own(id string) []wants {
	verb, node, _ := strings.Cut(id, " ")
	switch verb {
	case "serve":
		return []wants{{rehearse.Serves, node}}
	case "expose":
		return []wants{{kind: rehearse.Balanced}}
	case "prove":
		return []wants{{rehearse.Proven, node}}
	case "publish", "withdraw":
		switch {
		case !l.bridges():
			return nil
		case verb == "publish":
			return []wants{{kind: rehearse.Bridged}}
		}
		return []wants{{kind: rehearse.Unbridged}}
	case "join":
		return []wants{{rehearse.DaemonReady, node}, {rehearse.WaysWork, node}, {rehearse.NodeReady, node}}
	case "leave":
		return []wants{{rehearse.NodeGone, node}}
	case "replace":
		return l.exchanged(node)
	case "close-ports":
		return []wants{{kind: rehearse.AllQuiet}}
	}
	return nil
}

// exchanged are the gates of a control-plane node whose programs were exchanged.
func (l *layer) exchanged(node string) []wants {
	gates := []wants{{rehearse.Gossips, node}}
	if l.declared.Quiet {
		gates = []wants{{rehearse.Quiet, node}, {rehearse.OwnsHosts, node}}
	}
	if slices.ContainsFunc(l.Nodes, func(n labctl.NodeStatus) bool { return n.Name == node && n.Serves }) {
		gates = append(gates, wants{rehearse.Serves, node})
	}
	return gates
}
