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

// GateKind names a gate of a lab, to ask for it from outside of a rehearsal. Most
// are about one node.
type GateKind string

// The gates that can be asked for.
const (
	Healthy     GateKind = "healthy"      // control plane healthy and agreed
	Serves      GateKind = "serves"       // a control-plane node serves workers
	Balanced    GateKind = "balanced"     // the worker-facing service answers on the load balancer
	Proven      GateKind = "proven"       // every endpoint answers a worker
	Bridged     GateKind = "bridged"      // the overlay leads to the load balancer
	Unbridged   GateKind = "unbridged"    // and no longer
	DaemonReady GateKind = "daemon-ready" // a worker's node program serves every control-plane node
	OwnsHosts   GateKind = "owns-hosts"   // a node's agent writes the hosts block
	WaysWork    GateKind = "ways-work"    // a worker calls the API on each way that it has
	AllWork     GateKind = "all-work"     // every worker does
	NodeReady   GateKind = "node-ready"   // the API calls a worker's Node ready
	NodeGone    GateKind = "node-gone"    // the API no longer does
	Quiet       GateKind = "quiet"        // nothing gossips on a node
	Gossips     GateKind = "gossips"      // something does
	AllQuiet    GateKind = "all-quiet"    // nothing gossips on any node
)

// GateOf returns a gate of a lab; node is empty for one about the cluster. Before
// it is asked, the world is not needed: whoever asks from afar takes the name and
// the limits from here, and the answer from where the lab is.
func GateOf(w World, cluster string, kind GateKind, node string) (reconcile.Gate, error) {
	g := gates{world: w, cluster: cluster}
	n := lab.Node{Name: node}
	one, ok := map[GateKind]func() reconcile.Gate{
		Serves:      func() reconcile.Gate { return g.serves(n) },
		Proven:      func() reconcile.Gate { return g.proven(n) },
		DaemonReady: func() reconcile.Gate { return g.daemonReady(n) },
		OwnsHosts:   func() reconcile.Gate { return g.ownsHosts(n) },
		WaysWork:    func() reconcile.Gate { return g.waysWork(n) },
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
			AllWork:   g.allWork,
			AllQuiet:  g.allQuiet,
		}[kind]
	}
	if !ok {
		return reconcile.Gate{}, fmt.Errorf("a lab has no gate %q", kind)
	}
	return one(), nil
}

// daemonReady: the worker's node program, whichever it was born with, knows of
// nothing wrong and serves every control-plane node.
func (g gates) daemonReady(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "node program ready on " + n.Name, Within: gateTime, Every: askEvery, Check: func(ctx context.Context) (report.Verdict, string) {
		r, err := g.daemonOf(ctx, n.Name)
		if err != nil {
			return unknown(err)
		}
		if p := problems(r); len(p) > 0 {
			return fail("%s", strings.Join(p, "; "))
		}
		for _, c := range g.world.Layout().ControlPlane() {
			if !serving(r, netip.AddrPortFrom(c.Addr, lab.APIPort)) && !leadsTo(r, c.Addr) {
				return fail("it does not serve %s yet", c.Name)
			}
		}
		return pass("%s serves every control-plane node", r.Program)
	}}
}

// waysWork: the worker has called the API by name often enough, and through its
// balancer where it has one, without one failure.
func (g gates) waysWork(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "API on every way of " + n.Name, Within: gateTime, Every: askEvery, Check: func(context.Context) (report.Verdict, string) {
		running, err := g.world.Running(n.Name)
		if err != nil {
			return unknown(err)
		}
		ways := []probe.Path{probe.ByName}
		if slices.ContainsFunc(running, func(r lab.Running) bool { return r.Program == lab.Agent }) {
			ways = append(ways, probe.LocalBalancer)
		}
		return g.unbroken(n, ways)
	}}
}

// allWork: every worker's ways work now.
func (g gates) allWork() reconcile.Gate {
	return g.everyWorker("every worker calls the API on every way", g.waysWork)
}

// nodeGone: the API no longer lists the worker as ready.
func (g gates) nodeGone(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "Node " + n.Name + " gone", Within: gateTime, Every: askEvery, Check: func(ctx context.Context) (report.Verdict, string) {
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

// gossips: a gossip program runs on the node, and says that it is well.
func (g gates) gossips(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "gossip on " + n.Name, Within: gateTime, Every: askEvery, Check: func(ctx context.Context) (report.Verdict, string) {
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
	return reconcile.Gate{Name: "no gossip on any node", Within: quickTime, Every: askEvery, Check: func(ctx context.Context) (report.Verdict, string) {
		return g.gossipGone(g.world.Layout().Nodes).Check(ctx)
	}}
}
