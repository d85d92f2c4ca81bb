package rehearse

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// World is what gates observe. It is read-only.
type World interface {
	Layout() lab.Layout
	// Observe returns what a worker's prober has measured.
	Observe(node string) (lab.Observation, error)
	// Running returns the processes on a node, as the kernel lists them.
	Running(node string) ([]lab.Running, error)
	// Report asks a node program for its status.
	Report(ctx context.Context, node string, p lab.Program) (node.Report, error)
	// Call makes one HTTPS request from a node. The certificate is verified against
	// serverName, whatever the address.
	Call(ctx context.Context, from string, to netip.AddrPort, serverName, path string) error
	// NodesReady returns the names of the nodes that the API reports as ready.
	NodesReady(ctx context.Context) ([]string, error)
}

// gates makes the gates of a rehearsal.
type gates struct {
	world   World
	kops    Kops // nil if workers run Muster's programs
	cluster string
}

// provenProbes is the number of consecutive successful probes that prove a path: at
// ten per second and path, two seconds without a failure.
const provenProbes = 20

// Time limits of gates. A fault that is repaired after faultDuration must fit in
// the first.
const (
	gateTimeout  = 30 * time.Second
	shortTimeout = 10 * time.Second
)

func pass(format string, args ...any) (report.Verdict, string) {
	return report.Pass, fmt.Sprintf(format, args...)
}

func fail(format string, args ...any) (report.Verdict, string) {
	return report.Fail, fmt.Sprintf(format, args...)
}

// unknown is the verdict if the observation itself failed.
func unknown(err error) (report.Verdict, string) { return report.Unknown, err.Error() }

// nodeReport returns the status of the node program on a node: the agent's where
// both run, since it is the one that stays.
func (g gates) nodeReport(ctx context.Context, name string) (node.Report, error) {
	r, err := g.world.Report(ctx, name, lab.Agent)
	if err != nil {
		return g.world.Report(ctx, name, lab.Peer)
	}
	return r, nil
}

// serves: a control-plane node's worker-facing service answers and its daemon
// reports no problem.
func (g gates) serves(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "worker-facing service answers on " + n.Name, Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		at := netip.AddrPortFrom(g.current(n).Addr, node.DiscoveryPort)
		if err := g.world.Call(ctx, n.Name, at, enrol.ServerName(g.cluster), "/healthz"); err != nil {
			return fail("%v", err)
		}
		r, err := g.nodeReport(ctx, n.Name)
		if err != nil {
			return unknown(err)
		}
		if p := problems(r); len(p) > 0 {
			return fail("%s", strings.Join(p, "; "))
		}
		return pass("%s on %s", r.Program, at)
	}}
}

// problems returns the problems that a daemon reports, except that another program
// still owns the hosts block: that one is about to be replaced.
func problems(r node.Report) []string {
	return slices.DeleteFunc(slices.Clone(r.Problems), func(p string) bool { return strings.Contains(p, hosts.Waiting) })
}

// current returns the current layout of a node: its address may have changed.
func (g gates) current(n lab.Node) lab.Node {
	for _, now := range g.world.Layout().Nodes {
		if now.Name == n.Name {
			return now
		}
	}
	return n
}

// healthy: every API server is ready and every control-plane node knows every
// other, so that none is away when the next is touched.
func (g gates) healthy() reconcile.Gate {
	return reconcile.Gate{Name: "control plane healthy and agreed", Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		nodes := g.world.Layout().ControlPlane()
		for _, n := range nodes {
			if err := g.world.Call(ctx, n.Name, netip.AddrPortFrom(n.Addr, lab.APIPort), g.apiName(), "/readyz"); err != nil {
				return fail("API server on %s: %v", n.Name, err)
			}
		}
		for _, n := range nodes {
			r, err := g.nodeReport(ctx, n.Name)
			if err != nil {
				return unknown(err)
			}
			for _, other := range nodes {
				if !serving(r, netip.AddrPortFrom(other.Addr, lab.APIPort)) {
					return fail("%s does not know the API server on %s", n.Name, other.Name)
				}
			}
		}
		return pass("%d of %d ready, each knows all", len(nodes), len(nodes))
	}}
}

func (g gates) apiName() string { return "api.internal." + g.cluster }

func serving(r node.Report, addr netip.AddrPort) bool {
	if len(r.Services) == 0 {
		return false
	}
	for _, e := range r.Services[0].Serving {
		if e.Addr == addr {
			return true
		}
	}
	return false
}

// proven: the API and the worker-facing service answer a worker on every address
// that it will be given, each individually.
func (g gates) proven(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "every endpoint answers from " + n.Name, Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		layout := g.world.Layout()
		hosts := []netip.Addr{}
		if layout.LoadBalancer.IsValid() {
			hosts = append(hosts, layout.LoadBalancer)
		}
		for _, c := range layout.ControlPlane() {
			hosts = append(hosts, c.Addr)
		}
		for _, h := range hosts {
			api, discovery := netip.AddrPortFrom(h, lab.APIPort), netip.AddrPortFrom(h, node.DiscoveryPort)
			if err := g.world.Call(ctx, n.Name, api, g.apiName(), "/readyz"); err != nil {
				return fail("API at %s: %v", api, err)
			}
			if err := g.world.Call(ctx, n.Name, discovery, enrol.ServerName(g.cluster), "/healthz"); err != nil {
				return fail("worker-facing service at %s: %v", discovery, err)
			}
		}
		return pass("%d addresses, two services each", len(hosts))
	}}
}

// balanced: the worker-facing service answers a worker through the load balancer.
func (g gates) balanced() reconcile.Gate {
	return reconcile.Gate{Name: "worker-facing service answers on the load balancer", Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		layout := g.world.Layout()
		from, at := layout.Workers()[0].Name, netip.AddrPortFrom(layout.LoadBalancer, node.DiscoveryPort)
		if err := g.world.Call(ctx, from, at, enrol.ServerName(g.cluster), "/healthz"); err != nil {
			return fail("%v", err)
		}
		return pass("%s, from %s", at, from)
	}}
}

// bridged: every node that still gossips serves the load balancer among the API's
// addresses; with want unset, none does.
func (g gates) bridged(want bool) reconcile.Gate {
	name := "the overlay leads to the load balancer"
	if !want {
		name = "the overlay no longer leads to the load balancer"
	}
	return reconcile.Gate{Name: name, Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		layout, asked := g.world.Layout(), 0
		for _, n := range layout.Nodes {
			found, err := gossipOn(g.world, n.Name)
			if err != nil {
				return unknown(err)
			}
			if !found.Any() {
				continue
			}
			r, err := g.world.Report(ctx, n.Name, lab.Peer)
			if err != nil {
				return unknown(err)
			}
			asked++
			if servesAddr(r, layout.LoadBalancer) != want {
				return fail("%s serves the load balancer: %v", n.Name, !want)
			}
		}
		if asked == 0 && want {
			return fail("nobody gossips")
		}
		return pass("%d nodes that gossip asked", asked)
	}}
}

// servesAddr reports whether a daemon serves an address for the API, on any port:
// kOps's records have none.
func servesAddr(r node.Report, addr netip.Addr) bool {
	return len(r.Services) > 0 && slices.ContainsFunc(r.Services[0].Serving, func(e endpoint.Endpoint) bool { return e.Addr.Addr() == addr })
}

// agentReady: the worker's agent is enrolled, receives updates, and serves every
// control-plane node.
func (g gates) agentReady(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "muster-agent ready on " + n.Name, Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		r, err := g.world.Report(ctx, n.Name, lab.Agent)
		if err != nil {
			return unknown(err)
		}
		if p := problems(r); len(p) > 0 {
			return fail("%s", strings.Join(p, "; "))
		}
		for _, c := range g.world.Layout().ControlPlane() {
			if !serving(r, netip.AddrPortFrom(c.Addr, lab.APIPort)) {
				return fail("it does not serve %s yet", c.Name)
			}
		}
		return pass("enrolled, streaming from %s", r.Stream)
	}}
}

// joined: the worker has booted: its agent is ready or, on a kOps node, its kubelet
// runs.
func (g gates) joined(n lab.Node) reconcile.Gate {
	if g.kops == nil {
		return g.agentReady(n)
	}
	return reconcile.Gate{Name: n.Name + " joins", Within: gateTimeout, Every: pollInterval, Check: func(context.Context) (report.Verdict, string) {
		waits, err := g.kops.Boot(n.Name)
		switch {
		case err != nil:
			return unknown(err)
		case waits != "":
			return fail("%s", waits)
		}
		return pass("its kubelet runs")
	}}
}

// ownsHosts: the agent has taken over the hosts block.
func (g gates) ownsHosts(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "hosts block handed over on " + n.Name, Within: shortTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		r, err := g.world.Report(ctx, n.Name, lab.Agent)
		if err != nil {
			return unknown(err)
		}
		if r.Hosts != "ok" {
			return fail("%s", r.Hosts)
		}
		return pass("written by %s", r.Program)
	}}
}

// pathsWork: the worker's last provenProbes calls of the API succeeded, by name and,
// unless it is a kOps node, through its local balancer.
func (g gates) pathsWork(n lab.Node) reconcile.Gate {
	name, paths := "API by name and through the local balancer from "+n.Name, []probe.Path{probe.ByName, probe.LocalBalancer}
	if g.kops != nil {
		name, paths = "API by name from "+n.Name, paths[:1]
	}
	return reconcile.Gate{Name: name, Within: gateTimeout, Every: pollInterval, Check: func(context.Context) (report.Verdict, string) {
		return g.noFailures(n, paths)
	}}
}

// noFailures is the verdict on whether the last provenProbes probes of a node
// succeeded on each of the paths.
func (g gates) noFailures(n lab.Node, paths []probe.Path) (report.Verdict, string) {
	o, err := g.world.Observe(n.Name)
	if err != nil {
		return unknown(err)
	}
	for _, p := range paths {
		if o.Streak[p] < provenProbes {
			return fail("path %s: %d of %d probes in a row", p, o.Streak[p], provenProbes)
		}
	}
	return pass("%d probes in a row on each of %d", provenProbes, len(paths))
}

// everyWorker passes if the gate passes for each worker and there is at least one.
func (g gates) everyWorker(name string, one func(lab.Node) reconcile.Gate) reconcile.Gate {
	return reconcile.Gate{Name: name, Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		workers := g.world.Layout().Workers()
		for _, n := range workers {
			if v, reason := one(n).Check(ctx); v != report.Pass {
				return v, n.Name + ": " + reason
			}
		}
		if len(workers) == 0 {
			return fail("there is none")
		}
		return pass("%d of %d", len(workers), len(workers))
	}}
}

// workersSteady: pathsWork holds for every worker.
func (g gates) workersSteady() reconcile.Gate {
	return g.everyWorker("every worker calls the API", g.pathsWork)
}

// nodeReady: the API reports the worker's Node as ready.
func (g gates) nodeReady(n lab.Node) reconcile.Gate {
	return reconcile.Gate{Name: "Node " + n.Name + " ready", Within: gateTimeout, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
		ready, err := g.world.NodesReady(ctx)
		if err != nil {
			return unknown(err)
		}
		if !slices.Contains(ready, n.Name) {
			return fail("the API does not list it as ready")
		}
		return pass("heart beat seen by the API")
	}}
}

// gossipGone: the kernel lists no gossip process and no gossip port on the nodes.
func (g gates) gossipGone(nodes []lab.Node) reconcile.Gate {
	what := fmt.Sprintf("no gossip on %d nodes", len(nodes))
	if len(nodes) == 1 {
		what = "no gossip on " + nodes[0].Name
	}
	return reconcile.Gate{Name: what, Within: shortTimeout, Every: pollInterval, Check: func(context.Context) (report.Verdict, string) {
		for _, n := range nodes {
			found, err := gossipOn(g.world, n.Name)
			if err != nil {
				return unknown(err)
			}
			if found.Any() {
				return fail("%s: %s", n.Name, strings.Join(append(found.Processes, found.Ports...), ", "))
			}
		}
		return pass("no process, no port")
	}}
}

// gossipOn returns the gossip processes and ports on a node.
func gossipOn(w World, name string) (report.Gossip, error) {
	g := report.Gossip{Processes: []string{}, Ports: []string{}}
	running, err := w.Running(name)
	if err != nil {
		return g, err
	}
	for _, r := range running {
		if r.Gossips() {
			g.Processes = append(g.Processes, fmt.Sprintf("%s (pid %d)", r.Program, r.PID))
		}
		for _, s := range r.GossipSockets() {
			g.Ports = append(g.Ports, fmt.Sprintf("%s %s", s.Network, s.Local))
		}
	}
	return g, nil
}
