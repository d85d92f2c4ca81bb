package rehearse

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// GateKind names a gate of a lab, for use outside a rehearsal. Most concern one
// node.
type GateKind string

// The kinds of gates.
const (
	Healthy     GateKind = "healthy"      // every API server is ready and known to every control-plane node
	Serves      GateKind = "serves"       // a control-plane node serves workers
	Balanced    GateKind = "balanced"     // the worker-facing service answers on the load balancer
	Proven      GateKind = "proven"       // every endpoint answers a worker
	Bridged     GateKind = "bridged"      // the overlay leads to the load balancer
	Unbridged   GateKind = "unbridged"    // the overlay no longer does
	DaemonReady GateKind = "daemon-ready" // a worker's node program serves every control-plane node
	OwnsHosts   GateKind = "owns-hosts"   // a node's agent writes the hosts block
	WaysWork    GateKind = "ways-work"    // a worker calls the API on every path that it has
	AllWork     GateKind = "all-work"     // every worker does
	NodeReady   GateKind = "node-ready"   // the API reports a worker's Node as ready
	NodeGone    GateKind = "node-gone"    // the API no longer does
	Quiet       GateKind = "quiet"        // nothing gossips on a node
	Gossips     GateKind = "gossips"      // something does
	AllQuiet    GateKind = "all-quiet"    // nothing gossips on any node
)

// GateOf returns a gate of a lab; node is empty for one about the cluster. Only its
// Check uses w: a remote caller takes name and limits from here, and the verdict
// from the process that runs the lab. The error means that there is no such gate,
// or that it needs a node.
func GateOf(w World, cluster string, kind GateKind, node string) (reconcile.Gate, error) {
	g := gates{world: w, cluster: cluster}
	n := lab.Node{Name: node}
	one, ok := map[GateKind]func() reconcile.Gate{
		Serves:      func() reconcile.Gate { return g.serves(n) },
		Proven:      func() reconcile.Gate { return g.proven(n) },
		DaemonReady: func() reconcile.Gate { return g.daemonReady(n) },
		OwnsHosts:   func() reconcile.Gate { return g.ownsHosts(n) },
		WaysWork:    func() reconcile.Gate { return g.allPathsWork(n) },
		NodeReady:   func() reconcile.Gate { return g.nodeReady(n) },
		NodeGone:    func() reconcile.Gate { return g.nodeGone(n) },
		Quiet:       func() reconcile.Gate { return g.gossipGone([]lab.Node{n}) },
		Gossips:     func() reconcile.Gate { return g.gossips(n) },
	}[kind]
	if ok && node == "" {
		return reconcile.Gate{}, fmt.Errorf("gate %s is about a node, and none is named", kind)
	}
	if !ok {
		one, ok = map[GateKind]func() reconcile.Gate{
			Healthy:   g.healthy,
			Balanced:  g.balanced,
			Bridged:   func() reconcile.Gate { return g.bridged(true) },
			Unbridged: func() reconcile.Gate { return g.bridged(false) },
			AllWork:   g.allWorkersWork,
			AllQuiet:  g.allQuiet,
		}[kind]
	}
	if !ok {
		return reconcile.Gate{}, fmt.Errorf("a lab has no gate %q", kind)
	}
	return one(), nil
}

// daemonReady: the worker's node program, agent or peer, reports no problem and
// serves every control-plane node.
func (g gates) daemonReady(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "node program ready on " + n.Name, Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		r, err := g.nodeReport(ctx, n.Name)
		if err != nil {
			return unknown(err)
		}
		if p := problems(r); len(p) > 0 {
			return fail("%s", strings.Join(p, "; "))
		}
		for _, c := range g.world.Layout().ControlPlane() {
			if !serving(r, netip.AddrPortFrom(c.Addr, lab.APIPort)) && !servesAddr(r, c.Addr) {
				return fail("it does not serve %s yet", c.Name)
			}
		}
		return pass("%s serves every control-plane node", r.Program)
	}}
}

// allPathsWork: the worker's last provenProbes calls of the API succeeded, by name
// and, where it has one, through its local balancer.
func (g gates) allPathsWork(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "API on every way of " + n.Name, Within: gateTimeout, Every: pollInterval, Check: func(context.Context) (report.Verdict, string) {
		running, err := g.world.Running(n.Name)
		if err != nil {
			return unknown(err)
		}
		ways := []probe.Path{probe.ByName}
		if slices.ContainsFunc(running, func(r lab.Running) bool { return r.Program == lab.Agent }) {
			ways = append(ways, probe.LocalBalancer)
		}
		return g.noFailures(n, ways)
	}}
}

// allWorkersWork: allPathsWork holds for every worker.
func (g gates) allWorkersWork() reconcile.Gate {
	return g.everyWorker("every worker calls the API on every way", g.allPathsWork)
}

// nodeGone: the API no longer lists the worker as ready.
func (g gates) nodeGone(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "Node " + n.Name + " gone", Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		ready, err := g.world.NodesReady(ctx)
		if err != nil {
			return unknown(err)
		}
		if slices.Contains(ready, n.Name) {
			return fail("the API still lists it as ready")
		}
		return pass("%d nodes are ready", len(ready))
	}}
}

// gossips: a gossip program runs on the node and reports no problem.
func (g gates) gossips(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "gossip on " + n.Name, Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		r, err := g.world.Report(ctx, n.Name, lab.Peer)
		if err != nil {
			return unknown(err)
		}
		if p := problems(r); len(p) > 0 {
			return fail("%s", strings.Join(p, "; "))
		}
		return pass("%s runs", r.Program)
	}}
}

// allQuiet: nothing gossips on any node.
func (g gates) allQuiet() reconcile.Gate {
	return reconcile.Gate{Name: "no gossip on any node", Within: shortTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		return g.gossipGone(g.world.Layout().Nodes).Check(ctx)
	}}
}
