package rehearse

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
)

// Executor changes the lab.
type Executor interface {
	// ServeDiscovery makes a control-plane node serve workers.
	ServeDiscovery(ctx context.Context, node string) error
	// ExposeDiscovery exposes that service on the load balancer.
	ExposeDiscovery(ctx context.Context) error
	// StartAgent starts muster-agent on a worker, beside what runs there.
	StartAgent(ctx context.Context, node string) error
	// StopPeer stops gossip on a worker.
	StopPeer(ctx context.Context, node string) error
	// LeaveGossip replaces muster-peer by muster-agent on the control plane.
	LeaveGossip(ctx context.Context, node string) error
	// PublishBalancer adds the load balancer to the overlay's records.
	PublishBalancer(ctx context.Context) error
	// WithdrawBalancer removes it from them.
	WithdrawBalancer(ctx context.Context) error
	// Reboot powers a node off and, after away, on again.
	Reboot(ctx context.Context, node string, away time.Duration) error
}

// planner translates a plan's steps into steps on the lab.
type planner struct {
	layout lab.Layout
	exec   Executor
	kops   Kops // nil if workers run Muster's programs
	gates  gates
	start  cluster.Topology // the topology in which the lab started
	bridge bool             // a leaf can publish into the overlay
}

// rebootPause is the time that a rebooted node is off.
const rebootPause = 500 * time.Millisecond

// stepsFor returns the lab's steps for a plan, in order. A step that changes nothing
// there, such as one of the spec or of a cloud role, only checks health.
func (p planner) stepsFor(pl plan.Plan) (steps []step) {
	// In hybrid and none the control plane already serves workers, and Muster's
	// workers already run muster-agent.
	rolled := p.start == cluster.Hybrid || p.start == cluster.None
	if !rolled && !slices.ContainsFunc(pl.Steps, func(s plan.Planned) bool { return s.ID == "serve" || s.ID == "expose" }) {
		// The cluster already serves workers, so that the plan has no step for it.
		steps = append(steps, p.serve())
		if p.layout.LoadBalancer.IsValid() {
			steps = append(steps, p.expose())
		}
	}
	c := p.kopsState(pl)
	for _, s := range pl.Steps {
		if done, ok := c.step(s); ok {
			steps = append(steps, done)
			continue
		}
		switch s.ID {
		case "serve":
			steps = append(steps, p.serve())
		case "expose":
			steps = append(steps, p.serve(), p.expose())
		case "prove":
			steps = append(steps, p.prove())
		case "publish", "withdraw":
			steps = append(steps, p.publish(s))
		case "canary":
			for _, group := range p.layout.Groups(identity.Worker) {
				steps = append(steps, p.canary(group, rolled))
			}
		case "roll-workers":
			for _, group := range p.layout.Groups(identity.Worker) {
				steps = append(steps, p.rollRest(group, rolled)...)
			}
			rolled = true
			steps = append(steps, p.verifyNoGossip("see that no worker gossips any more", "only the control plane still does", p.layout.Workers()))
		case "roll-control-plane":
			steps = append(steps, p.leaveGossip(), p.verifyNoGossip("see that nothing gossips any more", "this is none", p.layout.Nodes))
		default:
			steps = append(steps, p.checkOnly(s))
		}
	}
	return steps
}

// verifyNoGossip checks on the nodes themselves that gossip is gone.
func (p planner) verifyNoGossip(title, why string, nodes []lab.Node) step {
	return step{title: title, why: why, actions: []action{{
		what: "look at processes and ports", gates: []reconcile.Gate{p.gates.gossipGone(nodes), p.gates.healthy()},
	}}}
}

// checkOnly stands for a step that changes nothing in the lab.
func (p planner) checkOnly(s plan.Planned) step {
	return step{title: s.Title, why: s.Why, actions: []action{{
		what: "nothing changes in the lab; look that everybody has a way", gates: []reconcile.Gate{p.gates.healthy()},
	}}}
}

// verifyNone is the only step for a cluster that is none already.
func (p planner) verifyNone() step {
	return step{
		title: "see that the cluster works without gossip",
		why:   "it is none already",
		actions: []action{{
			what:  "look at every node",
			gates: []reconcile.Gate{p.gates.gossipGone(p.layout.Nodes), p.gates.healthy(), p.gates.workersSteady()},
			moves: true, // so that a fault can be injected here
		}, {
			what:  "look again",
			gates: []reconcile.Gate{p.gates.healthy(), p.gates.workersSteady()},
		}},
	}
}

func (p planner) serve() step {
	s := step{
		title: "serve enrolment and endpoints on the control plane",
		why:   "workers without gossip ask the control plane who serves; one node at a time, so that most of it always answers",
	}
	for _, n := range p.layout.ControlPlane() {
		s.actions = append(s.actions, action{
			node:  n.Name,
			what:  "serve workers",
			do:    func(ctx context.Context) error { return p.exec.ServeDiscovery(ctx, n.Name) },
			gates: []reconcile.Gate{p.gates.serves(n), p.gates.healthy()},
		})
	}
	return s
}

func (p planner) expose() step {
	return step{
		title: "put that service on the load balancer",
		why:   "a worker that boots knows the load balancer's address and maybe nothing else that is still true",
		actions: []action{{
			what: "add a listener", do: p.exec.ExposeDiscovery, gates: []reconcile.Gate{p.gates.balanced()},
		}},
	}
}

// publish publishes or withdraws a bridge. On Muster's own overlay, where only
// control-plane nodes can write, it only checks health.
func (p planner) publish(s plan.Planned) step {
	add := s.ID == "publish"
	a := action{what: "write the load balancer into the records, as a leaf", do: p.exec.PublishBalancer}
	if !add {
		a = action{what: "write the records without the load balancer", do: p.exec.WithdrawBalancer}
	}
	if !p.bridge || !p.layout.LoadBalancer.IsValid() {
		a = action{what: "no leaf can write to this overlay; look that everybody has a way"}
	} else {
		a.gates = append(a.gates, p.gates.bridged(add))
	}
	a.gates = append(a.gates, p.gates.healthy())
	return step{title: s.Title, why: s.Why, actions: []action{a}}
}

func (p planner) prove() step {
	s := step{
		title: "prove every new endpoint from every worker",
		why:   "a listener is not a service, and what answers the operator need not answer a worker",
	}
	for _, n := range p.layout.Workers() {
		s.actions = append(s.actions, action{node: n.Name, what: "call the API and the worker-facing service, each address by itself", gates: []reconcile.Gate{p.gates.proven(n)}})
	}
	return s
}

// workers returns the workers of a group.
func (p planner) workers(group string) (nodes []lab.Node) {
	for _, n := range p.layout.Workers() {
		if n.Group == group {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// canary moves the first worker of a group off gossip and reboots it. If the group
// was already rolled, it only reboots it.
func (p planner) canary(group string, rolled bool) step {
	canary := p.workers(group)[0]
	s := step{
		title: fmt.Sprintf("%s: one canary, %s", group, canary.Name),
		why:   "if the new way does not work, one node shows it and the old way is still there",
	}
	switch {
	case p.kops != nil:
		s.actions = []action{p.replace(canary, true)}
	case !rolled:
		s.actions = p.swap(canary, true)
	}
	s.actions = append(s.actions, p.reboot(canary))
	return s
}

// rollRest moves the other workers of a group off gossip, if there are any. If the
// group was already rolled, they are rebooted instead: a replacement would boot the
// same.
func (p planner) rollRest(group string, rolled bool) []step {
	nodes := p.workers(group)[1:]
	if len(nodes) == 0 {
		return nil
	}
	s := step{
		title: fmt.Sprintf("%s: the other %d", group, len(nodes)),
		why:   "the canary joined, worked and came back from a reboot",
	}
	for _, n := range nodes {
		switch {
		case p.kops != nil:
			s.actions = append(s.actions, p.replace(n, false))
		case rolled:
			s.actions = append(s.actions, p.reboot(n))
		default:
			s.actions = append(s.actions, p.swap(n, false)...)
		}
	}
	return []step{s}
}

func (p planner) reboot(n lab.Node) action {
	return action{
		node:  n.Name,
		what:  "reboot it",
		do:    func(ctx context.Context) error { return p.exec.Reboot(ctx, n.Name, rebootPause) },
		gates: []reconcile.Gate{p.gates.joined(n), p.gates.pathsWork(n), p.gates.nodeReady(n)},
	}
}

// swap replaces muster-peer by muster-agent on a worker: the new program is proven
// before the old one stops.
func (p planner) swap(n lab.Node, canary bool) []action {
	return []action{
		{
			node:  n.Name,
			what:  "start muster-agent beside muster-peer",
			do:    func(ctx context.Context) error { return p.exec.StartAgent(ctx, n.Name) },
			gates: []reconcile.Gate{p.gates.agentReady(n), p.gates.pathsWork(n)},

			moves:  true,
			canary: canary,
		},
		{
			node:  n.Name,
			what:  "stop muster-peer",
			do:    func(ctx context.Context) error { return p.exec.StopPeer(ctx, n.Name) },
			gates: []reconcile.Gate{p.gates.gossipGone([]lab.Node{n}), p.gates.ownsHosts(n), p.gates.pathsWork(n), p.gates.nodeReady(n)},
		},
	}
}

func (p planner) leaveGossip() step {
	s := step{
		title: "take the control plane off gossip",
		why:   "nobody reads the overlay any more; the nodes of the control plane know each other through the API",
	}
	for _, n := range p.layout.ControlPlane() {
		s.actions = append(s.actions, action{
			node: n.Name,
			what: "replace muster-peer by muster-agent",
			do:   func(ctx context.Context) error { return p.exec.LeaveGossip(ctx, n.Name) },
			gates: []reconcile.Gate{
				p.gates.gossipGone([]lab.Node{n}), p.gates.ownsHosts(n), p.gates.serves(n), p.gates.healthy(), p.gates.workersSteady(),
			},
		})
	}
	return s
}
