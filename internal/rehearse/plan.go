package rehearse

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab"
)

// Executor carries steps out.
type Executor interface {
	// ServeDiscovery makes a control-plane node serve workers.
	ServeDiscovery(ctx context.Context, node string) error
	// ExposeDiscovery puts that service on the load balancer.
	ExposeDiscovery(ctx context.Context) error
	// StartAgent puts muster-agent on a worker beside what runs there.
	StartAgent(ctx context.Context, node string) error
	// StopPeer takes gossip off a worker.
	StopPeer(ctx context.Context, node string) error
	// LeaveGossip replaces muster-peer by muster-agent on the control plane.
	LeaveGossip(ctx context.Context, node string) error
	// Reboot switches a node off and on.
	Reboot(ctx context.Context, node string, away time.Duration) error
}

// planner lays out the steps from gossip to hybrid and on to none. The order is
// fixed: the new way is proven on each worker before gossip leaves it, and the
// control plane goes last, because old workers need it to gossip.
type planner struct {
	layout lab.Layout
	exec   Executor
	gates  gates
}

// awayTime is how long a rebooted node is off.
const awayTime = 500 * time.Millisecond

func (p planner) steps(to cluster.Topology) []step {
	steps := []step{p.serve()}
	if p.layout.LoadBalancer.IsValid() {
		steps = append(steps, p.expose())
	}
	steps = append(steps, p.prove())
	for _, group := range p.layout.Groups(identity.Worker) {
		steps = append(steps, p.roll(group)...)
	}
	steps = append(steps, step{
		title:   "see that no worker gossips any more",
		why:     "this is hybrid: only the control plane gossips",
		actions: []action{{what: "look at every worker's processes and ports", gates: []gate{p.gates.gossipGone(p.layout.Workers())}}},
	})
	if to != cluster.None {
		return steps
	}
	return append(steps, p.controlPlane(), step{
		title:   "see that nothing gossips any more",
		why:     "this is none",
		actions: []action{{what: "look at every node's processes and ports", gates: []gate{p.gates.gossipGone(p.layout.Nodes), p.gates.healthy()}}},
	})
}

// observe is all that is left for a cluster that has no gossip to lose.
func (p planner) observe() step {
	return step{
		title: "see that the cluster works without gossip",
		why:   "it is none already",
		actions: []action{{
			what:  "look at every node",
			gates: []gate{p.gates.gossipGone(p.layout.Nodes), p.gates.healthy(), p.gates.workersSteady()},
			moves: true, // a fault can strike here as well
		}, {
			what:  "look again",
			gates: []gate{p.gates.healthy(), p.gates.workersSteady()},
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
			gates: []gate{p.gates.serves(n), p.gates.healthy()},
		})
	}
	return s
}

func (p planner) expose() step {
	return step{
		title: "put that service on the load balancer",
		why:   "a worker that boots knows the load balancer's address and maybe nothing else that is still true",
		actions: []action{{
			what: "add a listener", do: p.exec.ExposeDiscovery, gates: []gate{p.gates.balanced()},
		}},
	}
}

func (p planner) prove() step {
	s := step{
		title: "prove every new endpoint from every worker",
		why:   "a listener is not a service, and what answers the operator need not answer a worker",
	}
	for _, n := range p.layout.Workers() {
		s.actions = append(s.actions, action{node: n.Name, what: "call the API and the worker-facing service, each address by itself", gates: []gate{p.gates.proven(n)}})
	}
	return s
}

// roll takes one group of workers off gossip: a canary first, which also has to
// survive a reboot, then the rest.
func (p planner) roll(group string) []step {
	var nodes []lab.Node
	for _, n := range p.layout.Workers() {
		if n.Group == group {
			nodes = append(nodes, n)
		}
	}
	canary := nodes[0]
	steps := []step{{
		title: fmt.Sprintf("%s: one canary, %s", group, canary.Name),
		why:   "if the new way does not work, one node shows it and the old way is still there",
		actions: append(p.swap(canary, true), action{
			node:  canary.Name,
			what:  "reboot it",
			do:    func(ctx context.Context) error { return p.exec.Reboot(ctx, canary.Name, awayTime) },
			gates: []gate{p.gates.agentReady(canary), p.gates.pathsWork(canary), p.gates.nodeReady(canary)},
		}),
	}}
	if len(nodes) == 1 {
		return steps
	}
	rest := step{
		title: fmt.Sprintf("%s: the other %d", group, len(nodes)-1),
		why:   "the canary joined, worked and came back from a reboot",
	}
	for _, n := range nodes[1:] {
		rest.actions = append(rest.actions, p.swap(n, false)...)
	}
	return append(steps, rest)
}

// swap replaces one program by the other on a worker: the new one is proven
// before the old one goes.
func (p planner) swap(n lab.Node, canary bool) []action {
	return []action{
		{
			node:  n.Name,
			what:  "start muster-agent beside muster-peer",
			do:    func(ctx context.Context) error { return p.exec.StartAgent(ctx, n.Name) },
			gates: []gate{p.gates.agentReady(n), p.gates.pathsWork(n)},

			moves:  true,
			canary: canary,
		},
		{
			node:  n.Name,
			what:  "stop muster-peer",
			do:    func(ctx context.Context) error { return p.exec.StopPeer(ctx, n.Name) },
			gates: []gate{p.gates.gossipGone([]lab.Node{n}), p.gates.ownsHosts(n), p.gates.pathsWork(n), p.gates.nodeReady(n)},
		},
	}
}

func (p planner) controlPlane() step {
	s := step{
		title: "take the control plane off gossip",
		why:   "nobody reads the overlay any more; the nodes of the control plane know each other through the API",
	}
	for _, n := range p.layout.ControlPlane() {
		s.actions = append(s.actions, action{
			node: n.Name,
			what: "replace muster-peer by muster-agent",
			do:   func(ctx context.Context) error { return p.exec.LeaveGossip(ctx, n.Name) },
			gates: []gate{
				p.gates.gossipGone([]lab.Node{n}), p.gates.ownsHosts(n), p.gates.serves(n), p.gates.healthy(), p.gates.workersSteady(),
			},
		})
	}
	return s
}
