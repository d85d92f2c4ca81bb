package rehearse

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/lab/proc"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// world is a fake cluster, healthy until a test changes it.
type world struct {
	layout      lab.Layout
	observation lab.Observation
	observeErr  error
	running     map[string][]lab.Running
	runningErr  error
	agent       node.Report
	agentErr    error
	callErr     error
	ready       []string
	nodesErr    error
	waits       string   // what a worker's boot waits for
	done        []string // operations in order
}

func (w *world) Layout() lab.Layout                           { return w.layout }
func (w *world) Observe(string) (lab.Observation, error)      { return w.observation, w.observeErr }
func (w *world) Running(name string) ([]lab.Running, error)   { return w.running[name], w.runningErr }
func (w *world) NodesReady(context.Context) ([]string, error) { return w.ready, w.nodesErr }
func (w *world) Report(context.Context, string, lab.Program) (node.Report, error) {
	return w.agent, w.agentErr
}
func (w *world) Call(context.Context, string, netip.AddrPort, string, string) error { return w.callErr }

func (w *world) note(what string) error {
	w.done = append(w.done, what)
	return nil
}
func (w *world) ServeDiscovery(_ context.Context, n string) error { return w.note("serve " + n) }
func (w *world) ExposeDiscovery(context.Context) error            { return w.note("expose") }
func (w *world) StartAgent(_ context.Context, n string) error     { return w.note("start " + n) }
func (w *world) PublishBalancer(context.Context) error            { return w.note("publish balancer") }
func (w *world) WithdrawBalancer(context.Context) error           { return w.note("withdraw balancer") }
func (w *world) StopPeer(_ context.Context, n string) error       { return w.note("stop " + n) }
func (w *world) LeaveGossip(_ context.Context, n string) error    { return w.note("leave " + n) }
func (w *world) Reboot(_ context.Context, n string, _ time.Duration) error {
	return w.note("reboot " + n)
}

// healthy is a cluster of two control-plane nodes and three workers in two
// groups, in which every gate passes.
func healthy(t *testing.T) *world {
	t.Helper()
	c := &cluster.Cluster{
		Name:    "t.k8s.local",
		DNSType: cluster.DNSPrivate,
		Cloud:   cluster.AWS,
		API:     cluster.API{LoadBalancer: &cluster.LoadBalancer{Class: cluster.LoadBalancerNetwork}},
		Groups: []cluster.Group{
			{Name: "cp", Role: cluster.RoleControlPlane, MinSize: 2},
			{Name: "a", Role: cluster.RoleNode, MinSize: 2},
			{Name: "b", Role: cluster.RoleNode, MinSize: 1},
		},
	}
	layout, err := lab.NewLayout(c, netip.MustParsePrefix("127.9.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{layout: layout, running: make(map[string][]lab.Running)}
	w.observation.Streak = map[probe.Path]int{probe.ByName: provenProbes, probe.LocalBalancer: provenProbes}
	serving := node.ServiceView{Name: "api.internal.t.k8s.local"}
	for _, n := range layout.ControlPlane() {
		serving.Serving = append(serving.Serving, endpoint.Endpoint{Addr: netip.AddrPortFrom(n.Addr, lab.APIPort), Sources: []endpoint.Source{endpoint.Stream}})
	}
	w.agent = node.Report{Program: "muster-agent", Hosts: "ok", Stream: "127.9.1.1:7947", Services: []node.ServiceView{serving}}
	for _, n := range layout.Nodes {
		w.ready = append(w.ready, n.Name)
	}
	return w
}

func TestGates(t *testing.T) {
	broken := errors.New("cannot look")
	gossip := lab.Running{Program: lab.Peer, PID: 7}
	hidden := lab.Running{Program: lab.Kubelet, PID: 8, Sockets: []proc.Socket{{Network: "udp", Local: netip.MustParseAddrPort("127.9.2.1:4000")}}}
	for _, tt := range []struct {
		name  string
		gate  func(gates, lab.Node) reconcile.Gate
		spoil func(*world)
		want  report.Verdict
	}{
		{"proven passes when every address answers", gates.proven, nil, report.Pass},
		{"proven fails when one does not", gates.proven, func(w *world) { w.callErr = broken }, report.Fail},
		{"the balancer's gate passes when it answers", func(g gates, _ lab.Node) reconcile.Gate { return g.balanced() }, nil, report.Pass},
		{"the balancer's gate fails when it does not", func(g gates, _ lab.Node) reconcile.Gate { return g.balanced() }, func(w *world) { w.callErr = broken }, report.Fail},
		{"a bridge that no peer serves is not there", func(g gates, _ lab.Node) reconcile.Gate { return g.bridged(true) }, func(w *world) { w.running["a-1"] = []lab.Running{gossip} }, report.Fail},
		{"a bridge that nobody could hear of is not there", func(g gates, _ lab.Node) reconcile.Gate { return g.bridged(true) }, nil, report.Fail},
		{"a bridge that is down is down", func(g gates, _ lab.Node) reconcile.Gate { return g.bridged(false) }, func(w *world) { w.running["a-1"] = []lab.Running{gossip} }, report.Pass},
		{"a bridge that a peer still serves is not down", func(g gates, _ lab.Node) reconcile.Gate { return g.bridged(false) }, func(w *world) {
			w.running["a-1"] = []lab.Running{gossip}
			s := &w.agent.Services[0].Serving
			*s = append(*s, endpoint.Endpoint{Addr: netip.AddrPortFrom(w.layout.LoadBalancer, lab.APIPort)})
		}, report.Fail},
		{"an agent that serves all is ready", gates.agentReady, nil, report.Pass},
		{"an agent that waits for the hosts block is ready", gates.agentReady, func(w *world) { w.agent.Problems = []string{"hosts block: waiting for the lock of /etc/hosts"} }, report.Pass},
		{"an agent with another problem is not", gates.agentReady, func(w *world) { w.agent.Problems = []string{"not enrolled yet"} }, report.Fail},
		{"an agent that lacks a server is not", gates.agentReady, func(w *world) { w.agent.Services[0].Serving = w.agent.Services[0].Serving[:1] }, report.Fail},
		{"an agent that reports no service at all is not", gates.agentReady, func(w *world) { w.agent.Services = nil }, report.Fail},
		{"an agent that does not answer is unknown", gates.agentReady, func(w *world) { w.agentErr = broken }, report.Unknown},
		{"hosts handed over", gates.ownsHosts, nil, report.Pass},
		{"hosts still waited for", gates.ownsHosts, func(w *world) { w.agent.Hosts = "waiting for the lock" }, report.Fail},
		{"hosts not to be seen", gates.ownsHosts, func(w *world) { w.agentErr = broken }, report.Unknown},
		{"paths proven", gates.pathsWork, nil, report.Pass},
		{"one probe short of proof", gates.pathsWork, func(w *world) { w.observation.Streak[probe.LocalBalancer]-- }, report.Fail},
		{"paths not to be seen", gates.pathsWork, func(w *world) { w.observeErr = broken }, report.Unknown},
		{"every worker steady", func(g gates, _ lab.Node) reconcile.Gate { return g.workersSteady() }, nil, report.Pass},
		{"no worker is not every worker", func(g gates, _ lab.Node) reconcile.Gate { return g.workersSteady() }, func(w *world) { w.layout.Nodes = w.layout.ControlPlane() }, report.Fail},
		{"node ready", gates.nodeReady, nil, report.Pass},
		{"node not ready", gates.nodeReady, func(w *world) { w.ready = nil }, report.Fail},
		{"nodes not to be listed", gates.nodeReady, func(w *world) { w.nodesErr = broken }, report.Unknown},
		{"no gossip", func(g gates, n lab.Node) reconcile.Gate { return g.gossipGone([]lab.Node{n}) }, nil, report.Pass},
		{"a gossip process", func(g gates, n lab.Node) reconcile.Gate { return g.gossipGone([]lab.Node{n}) }, func(w *world) { w.running["a-1"] = []lab.Running{gossip} }, report.Fail},
		{"a gossip port under another name", func(g gates, n lab.Node) reconcile.Gate { return g.gossipGone([]lab.Node{n}) }, func(w *world) { w.running["a-1"] = []lab.Running{hidden} }, report.Fail},
		{"processes not to be seen", func(g gates, n lab.Node) reconcile.Gate { return g.gossipGone([]lab.Node{n}) }, func(w *world) { w.runningErr = broken }, report.Unknown},
		{"control plane healthy", func(g gates, _ lab.Node) reconcile.Gate { return g.healthy() }, nil, report.Pass},
		{"an API server that is not ready", func(g gates, _ lab.Node) reconcile.Gate { return g.healthy() }, func(w *world) { w.callErr = broken }, report.Fail},
		{"a control-plane node that does not know its fellow", func(g gates, _ lab.Node) reconcile.Gate { return g.healthy() }, func(w *world) { w.agent.Services[0].Serving = w.agent.Services[0].Serving[1:] }, report.Fail},
		{"a control-plane daemon that does not answer", func(g gates, _ lab.Node) reconcile.Gate { return g.healthy() }, func(w *world) { w.agentErr = broken }, report.Unknown},
		{"the worker-facing service", gates.serves, nil, report.Pass},
		{"the worker-facing service beside a program that owns the hosts block", gates.serves, func(w *world) { w.agent.Problems = []string{"hosts block: waiting for the lock of /etc/hosts"} }, report.Pass},
		{"the worker-facing service with a problem", gates.serves, func(w *world) { w.agent.Problems = []string{"x"} }, report.Fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := healthy(t)
			worker := w.layout.Workers()[0]
			if tt.spoil != nil {
				tt.spoil(w)
			}
			got, reason := tt.gate(gates{world: w, cluster: "t.k8s.local"}, worker).Check(t.Context())
			if got != tt.want || reason == "" {
				t.Errorf("got %s, %q; want %s and a reason", got, reason, tt.want)
			}
		})
	}
}

// A process gossips if it listens on a gossip port, Muster's own or one of kOps's
// four, and so does every muster-peer, whatever its ports.
func TestGossipIsGoneOnlyWithEveryProcessAndPort(t *testing.T) {
	listener := func(program lab.Program, network string, port uint16) lab.Running {
		return lab.Running{Program: program, Sockets: []proc.Socket{{Network: network, Local: netip.AddrPortFrom(netip.MustParseAddr("127.9.2.1"), port)}}}
	}
	for _, tt := range []struct {
		name    string
		running lab.Running
		want    report.Verdict
	}{
		{"nothing at all", lab.Running{Program: lab.Kubelet}, report.Pass},
		{"an agent and its balancer", listener(lab.Agent, "tcp", 6444), report.Pass},
		{"a peer that listens nowhere", lab.Running{Program: lab.Peer}, report.Fail},
		{"a peer on ports of its own", listener(lab.Peer, "tcp", 13999), report.Fail},
		{"Muster's own overlay", listener(lab.Agent, "udp", node.OverlayPort), report.Fail},
		{"dns-controller's memberlist", listener(lab.Stranger, "udp", 3993), report.Fail},
		{"dns-controller's mesh", listener(lab.Stranger, "tcp", 3998), report.Fail},
		{"protokube's mesh", listener(lab.Stranger, "tcp", 3999), report.Fail},
		{"protokube's memberlist", listener(lab.Stranger, "tcp", 4000), report.Fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := healthy(t)
			n := w.layout.Workers()[0]
			w.running[n.Name] = []lab.Running{tt.running}
			if got, reason := (gates{world: w}).gossipGone([]lab.Node{n}).Check(t.Context()); got != tt.want {
				t.Errorf("%s: %s; want %s", got, reason, tt.want)
			}
		})
	}
}

func TestAGateIsPolledUntilItPassesOrTimesOut(t *testing.T) {
	for _, verdict := range []report.Verdict{report.Fail, report.Unknown} {
		t.Run(string(verdict)+" at the end stops", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := reconcile.Gate{Name: "g", Within: 5 * time.Second, Every: pollInterval, Check: func(context.Context) (report.Verdict, string) { return verdict, "because" }}
				began := time.Now()
				a := action{what: "look", gates: []reconcile.Gate{g, {Name: "never asked", Within: time.Second, Check: func(context.Context) (report.Verdict, string) {
					t.Error("the gate behind a failed one was asked")
					return report.Pass, ""
				}}}}
				r, ok := a.perform(t.Context())
				if ok || len(r.Gates) != 1 || r.Gates[0].Verdict != verdict {
					t.Errorf("ok %v, gates %+v; want one that is %s", ok, r.Gates, verdict)
				}
				if took := time.Since(began); took != 5*time.Second {
					t.Errorf("took %v; want the gate's 5 s", took)
				}
			})
		})
	}
	t.Run("a look that the deadline cuts short hides no failure", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			looks := 0
			g := reconcile.Gate{Name: "g", Within: 5 * time.Second, Every: pollInterval, Check: func(ctx context.Context) (report.Verdict, string) {
				if looks++; looks == 1 {
					return report.Fail, "it finds no seed"
				}
				<-ctx.Done()
				return report.Unknown, ctx.Err().Error()
			}}
			r := g.Await(t.Context())
			want := "it finds no seed; the last look could not be taken: context deadline exceeded (after 5s)"
			if r.Verdict != report.Fail || r.Reason != want {
				t.Errorf("got %s, %q; want fail, %q", r.Verdict, r.Reason, want)
			}
		})
	})
	t.Run("a late pass is a pass", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			g := reconcile.Gate{Name: "g", Within: 5 * time.Second, Every: pollInterval, Check: func(context.Context) (report.Verdict, string) {
				if time.Since(began) < 3*time.Second {
					return report.Fail, "not yet"
				}
				return report.Pass, "now"
			}}
			if r := g.Await(t.Context()); r.Verdict != report.Pass || r.Took < 3*time.Second {
				t.Errorf("got %+v", r)
			}
		})
	})
}

func TestAFailedActionChecksNoGate(t *testing.T) {
	a := action{do: func(context.Context) error { return errors.New("no") }, gates: []reconcile.Gate{{Name: "g", Within: time.Second, Check: func(context.Context) (report.Verdict, string) {
		t.Error("asked")
		return report.Pass, ""
	}}}}
	if r, ok := a.perform(t.Context()); ok || r.Error != "no" {
		t.Errorf("ok %v, error %q", ok, r.Error)
	}
}

// findPlan returns the plan for a layout.
func findPlan(t *testing.T, layout lab.Layout, to cluster.Topology) plan.Plan {
	t.Helper()
	c := &cluster.Cluster{Name: "t.k8s.local", Cloud: cluster.GCE}
	if layout.LoadBalancer.IsValid() {
		c.API.LoadBalancer = &cluster.LoadBalancer{}
	}
	c.Groups = append(c.Groups, cluster.Group{Name: "cp", Role: cluster.RoleControlPlane, MinSize: len(layout.ControlPlane())})
	for _, name := range layout.Groups(identity.Worker) {
		c.Groups = append(c.Groups, cluster.Group{Name: name, Role: cluster.RoleNode, MinSize: 1})
	}
	pl, err := choosePlan(t.Context(), Config{Cluster: c, To: to})
	if err != nil {
		t.Fatal(err)
	}
	return pl
}

// performed carries out a plan where every gate passes, and returns the operations.
func performed(t *testing.T, w *world, to cluster.Topology) []string {
	t.Helper()
	p := planner{layout: w.layout, exec: w, gates: gates{world: w, cluster: "t.k8s.local"}}
	for _, s := range p.stepsFor(findPlan(t, w.layout, to)) {
		if s.title == "" || s.why == "" || len(s.actions) == 0 {
			t.Errorf("step %q says nothing or does nothing", s.title)
		}
		for _, a := range s.actions {
			if len(a.gates) == 0 {
				t.Errorf("%s: nothing shows whether %q worked", s.title, a.what)
			}
			if _, ok := a.perform(t.Context()); !ok {
				t.Fatalf("%s: %s did not pass", s.title, a.what)
			}
		}
	}
	return w.done
}

func TestTheOrderOfSteps(t *testing.T) {
	hybrid := []string{
		"serve cp-1", "serve cp-2", "expose",
		"start a-1", "stop a-1", "reboot a-1", "start b", "stop b", "reboot b",
		"start a-2", "stop a-2",
	}
	if got := performed(t, healthy(t), cluster.Hybrid); !slices.Equal(got, hybrid) {
		t.Errorf("to hybrid:\n got %q\nwant %q", got, hybrid)
	}
	none := append(slices.Clone(hybrid), "leave cp-1", "leave cp-2")
	if got := performed(t, healthy(t), cluster.None); !slices.Equal(got, none) {
		t.Errorf("to none:\n got %q\nwant %q", got, none)
	}
	bare := healthy(t)
	bare.layout.LoadBalancer = netip.Addr{}
	if got := performed(t, bare, cluster.Hybrid); slices.Contains(got, "expose") {
		t.Errorf("a cluster without a load balancer had one extended: %q", got)
	}
}

// A plan that replaces workers twice is rehearsed as such: the second time they
// boot with the same configuration again.
func TestASecondReplacementIsAReboot(t *testing.T) {
	w := healthy(t)
	p := planner{layout: w.layout, exec: w, gates: gates{world: w, cluster: "t.k8s.local"}}
	twice := plan.Plan{Steps: []plan.Planned{{ID: "canary"}, {ID: "roll-workers"}, {ID: "set-none", Title: "set None", Why: "it comes next"}, {ID: "canary"}, {ID: "roll-workers"}}}
	for _, s := range p.stepsFor(twice) {
		for _, a := range s.actions {
			if _, ok := a.perform(t.Context()); !ok {
				t.Fatalf("%s: %s did not pass", s.title, a.what)
			}
		}
	}
	want := []string{
		"serve cp-1", "serve cp-2", "expose", // the plan begins behind it
		"start a-1", "stop a-1", "reboot a-1", "start b", "stop b", "reboot b", "start a-2", "stop a-2",
		"reboot a-1", "reboot b", "reboot a-2",
	}
	if !slices.Equal(w.done, want) {
		t.Errorf("\n got %q\nwant %q", w.done, want)
	}
}

// A bridge is published and withdrawn where a leaf can write to the overlay, and
// only checked where none can.
func TestABridgeIsPublishedWhereALeafCanWrite(t *testing.T) {
	bridge := plan.Plan{Steps: []plan.Planned{{ID: "expose"}, {ID: "publish", Title: "publish", Why: "workers gossip"}, {ID: "withdraw", Title: "withdraw", Why: "nobody gossips"}}}
	for _, tt := range []struct {
		can  bool
		want []string
	}{
		{true, []string{"serve cp-1", "serve cp-2", "expose", "publish balancer", "withdraw balancer"}},
		{false, []string{"serve cp-1", "serve cp-2", "expose"}},
	} {
		w := healthy(t)
		p := planner{layout: w.layout, exec: w, gates: gates{world: w, cluster: "t.k8s.local"}, bridge: tt.can}
		serving := &w.agent.Services[0].Serving
		without := slices.Clone(*serving)
		for _, n := range w.layout.Nodes {
			w.running[n.Name] = []lab.Running{{Program: lab.Peer, PID: 7}}
		}
		for _, s := range p.stepsFor(bridge) {
			for _, a := range s.actions {
				*serving = slices.Clone(without)
				if strings.Contains(a.what, "into the records") {
					*serving = append(slices.Clone(without), endpoint.Endpoint{Addr: netip.AddrPortFrom(w.layout.LoadBalancer, lab.APIPort)})
				}
				if r, ok := a.perform(t.Context()); !ok {
					t.Fatalf("%s: %s did not pass: %+v", s.title, a.what, r)
				}
			}
		}
		if !slices.Equal(w.done, tt.want) {
			t.Errorf("a leaf can write: %v: did %q, want %q", tt.can, w.done, tt.want)
		}
	}
}

// The new path is proven on a worker before gossip stops there.
func TestAPeerStopsOnlyWhereTheAgentIsProven(t *testing.T) {
	w := healthy(t)
	p := planner{layout: w.layout, exec: w, gates: gates{world: w, cluster: "t.k8s.local"}}
	w.observation.Streak[probe.LocalBalancer] = 0
	for _, a := range p.swap(w.layout.Workers()[0], true) {
		for i := range a.gates {
			a.gates[i].Within = time.Millisecond
		}
		if _, ok := a.perform(t.Context()); !ok {
			break
		}
	}
	if !slices.Equal(w.done, []string{"start a-1"}) {
		t.Errorf("done: %q; want the agent started and the peer left alone", w.done)
	}
}

func TestAFaultIsInjectedIntoTheFirstWorkerAfterACanary(t *testing.T) {
	w := healthy(t)
	p := planner{layout: w.layout, exec: w, gates: gates{world: w, cluster: "t.k8s.local"}}
	steps := p.stepsFor(findPlan(t, w.layout, cluster.None))
	at, within := (&rehearsal{}).injectionPoint(steps)
	if got := steps[at].actions[within]; got.node != "a-2" || !got.moves {
		t.Errorf("strikes at %q on %q; want the move of a-2", got.what, got.node)
	}
	w.layout.Nodes = slices.DeleteFunc(w.layout.Nodes, func(n lab.Node) bool { return n.Role == identity.Worker && n.Name != "b" })
	p.layout = w.layout
	steps = p.stepsFor(findPlan(t, w.layout, cluster.None))
	at, within = (&rehearsal{}).injectionPoint(steps)
	if got := steps[at].actions[within]; got.node != "b" || !got.moves {
		t.Errorf("without another it strikes at %q on %q; want the canary's move", got.what, got.node)
	}
}

func TestFaultsAreKnownByName(t *testing.T) {
	for _, k := range FaultKinds() {
		if err := CheckFault(k[0]); err != nil || k[1] == "" {
			t.Errorf("%s: %v, described as %q", k[0], err, k[1])
		}
	}
	if err := CheckFault("gremlins"); err == nil || !strings.Contains(err.Error(), "worker-rebooted") {
		t.Errorf("an unknown fault gave %v; want the list", err)
	}
}
