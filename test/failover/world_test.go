package failover

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/lab/proc"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/test/testca"
)

const (
	apiPort    = 6443
	serverName = "kubernetes"
	balancer   = "127.0.0.1:6444"
)

// TestMain makes the test binary the programs on the nodes, too.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-test.") {
		os.Exit(m.Run())
	}
	// Clients and servers share the machine with the agent that is measured: use as
	// little of it as possible. See also newClients.
	debug.SetGCPercent(400)
	err := fmt.Errorf("unknown verb %q", os.Args[1])
	switch args := os.Args[2:]; os.Args[1] {
	case netns.HoldVerb:
		err = netns.HoldMain(args)
	case netns.EnterVerb:
		err = netns.EnterMain(args)
	case "server":
		err = serveMain(args)
	case "clients":
		err = clientsMain(args)
	case "crowd":
		err = crowdMain(args)
	case "activated":
		err = activatedMain(args)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// world is a worker with muster-agent and clients, and API servers, each in its own network namespace.
type world struct {
	t       testing.TB
	dir     string
	self    string
	agent   string
	sup     *proc.Supervisor
	net     *netns.Network
	worker  *netns.Node
	servers []*machine
	running *proc.Process // muster-agent
	manager *manager      // of the worker's services
	clients *proc.Process
	lasting int // number of long-lived connections
}

type machine struct {
	*netns.Node
	world *world
	proc  *proc.Process
	mode  mode
}

func (m *machine) addr() netip.AddrPort { return netip.AddrPortFrom(m.IPv4, apiPort) }

// newWorld starts everything: API servers, of which the agent knows the first three, and long-lived connections.
func newWorld(t testing.TB, servers, lasting int) *world {
	t.Helper()
	bin := os.Getenv("MUSTER_BIN")
	if bin == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN); make test-failover and make test-soak build them and run this")
	}
	if err := netns.Check(); err != nil {
		if os.Getenv("MUSTER_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir(), self: self, lasting: lasting, agent: filepath.Join(bin, "muster-agent"), sup: proc.New(nil)}
	w.background(w.sup.Run)
	if w.net, err = netns.New(netns.Config{Supervisor: w.sup, Self: self, LogDir: w.dir}); err != nil {
		t.Fatal(err)
	}
	w.background(w.net.Run)
	testca.Write(t, w.dir, serverName)
	w.worker = w.node("worker")
	for i := range servers {
		m := &machine{Node: w.node(fmt.Sprintf("server-%d", i+1)), world: w}
		w.servers = append(w.servers, m)
	}
	for _, m := range w.servers {
		m.mode.Slice = w.addrs(w.servers[:3])
		m.start()
	}
	w.manager = newManager(t, w.path("manager.sock"))
	w.startAgent(w.config(w.addrs(w.servers[:3]), nil))
	w.startClients()
	return w
}

// background runs a function until the test ends, in reverse order of starting.
func (w *world) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("%v", err)
		}
	})
}

func (w *world) node(name string) *netns.Node {
	w.t.Helper()
	n, err := w.net.AddNode(w.t.Context(), netns.NodeSpec{Name: name, HostsFile: filepath.Join(w.dir, name+".hosts")})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) start(name, path string, node *netns.Node, args ...string) *proc.Process {
	w.t.Helper()
	p, err := w.sup.Start(w.t.Context(), proc.Spec{Name: name, Path: path, Args: args, Wrap: node.Wrap, LogFile: w.path(name + ".log")})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) addrs(machines []*machine) (addrs []netip.AddrPort) {
	for _, m := range machines {
		addrs = append(addrs, m.addr())
	}
	return addrs
}

// config writes the agent's configuration.
func (w *world) config(addresses, loadBalancer []netip.AddrPort) string {
	w.t.Helper()
	list := func(addrs []netip.AddrPort) string {
		texts := make([]string, len(addrs))
		for i, a := range addrs {
			texts[i] = strconv.Quote(a.String())
		}
		return "[" + strings.Join(texts, ", ") + "]"
	}
	text := fmt.Sprintf(`cluster: failover.test
node: worker
role: worker
stateDir: state
ca: ca.crt
services:
- name: api.internal
  ca: ca.crt
  serverName: %s
  addresses: %s
  loadBalancer: %s
  balance: %s
endpointSlice: {tokenFile: token}
hosts: {disabled: true}
status: {socket: status}
`, serverName, list(addresses), list(loadBalancer), balancer)
	for name, content := range map[string]string{"node.yaml": text, "token": "none\n"} {
		if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.path("node.yaml")
}

func (w *world) startAgent(config string) {
	w.t.Helper()
	sockets := w.manager.sockets()
	p, err := w.sup.Start(w.t.Context(), proc.Spec{
		Name: "agent", Path: w.self, Args: []string{"activated", w.manager.path, strconv.Itoa(len(sockets)), w.agent, "--config", config},
		Files: sockets, Wrap: w.worker.Wrap, LogFile: w.path("agent.log"),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.running = p
}

func (w *world) startClients() {
	w.clients = w.start("clients", w.self, w.worker, "clients", balancer, w.path(testca.CA), strconv.Itoa(w.lasting), w.path("clients.sock"))
	w.waitHealthy(time.Minute)
}

// restartClients spreads the connections over the first three servers again.
func (w *world) restartClients() {
	w.t.Helper()
	w.stopClients()
	w.waitBalancing(w.servers[:3])
	w.startClients()
}

// waitBalancing waits until the agent prefers some servers: a fault of one without connections would show nothing.
func (w *world) waitBalancing(over []*machine) {
	w.t.Helper()
	want := w.addrs(over)
	var got []netip.AddrPort
	for began := time.Now(); time.Since(began) < recoveryTimeout; time.Sleep(50 * time.Millisecond) {
		report, err := node.Ask(w.t.Context(), node.Status{Socket: w.path("status")})
		if err != nil || len(report.Services) != 1 {
			continue
		}
		got = nil
		for _, e := range report.Services[0].Serving {
			got = append(got, e.Addr)
		}
		first := slices.Clone(got[:min(len(want), len(got))])
		slices.SortFunc(first, netip.AddrPort.Compare)
		if slices.Equal(first, want) {
			return
		}
	}
	w.t.Fatalf("the agent balances over %v and not over %v", got, want)
}

func (w *world) stopClients() {
	w.t.Helper()
	if err := w.clients.Kill(); err != nil {
		w.t.Fatal(err)
	}
	<-w.clients.Exited()
}

// report returns the clients' report.
func (w *world) report(s since) (report, error) {
	var r report
	return r, post(w.t.Context(), w.path("clients.sock"), "/report", s, &r)
}

// waitHealthy waits until all long-lived connections work and new ones succeed.
func (w *world) waitHealthy(timeout time.Duration) {
	w.t.Helper()
	var r report
	var err error
	began := time.Now()
	for time.Since(began) < timeout {
		second := time.Now()
		time.Sleep(time.Second)
		if r, err = w.report(since{Moment: second, After: second}); err == nil && r.Unusable == 0 && r.New > 0 && r.FailedNew == 0 && r.Recovery <= 0 {
			return
		}
	}
	w.t.Fatalf("after %s: %+v, %v; the agent says:\n%s", timeout, r, err, w.running.Tail(15))
}

func (m *machine) start() {
	m.world.t.Helper()
	os.Remove(m.control())
	m.proc = m.world.start(m.Name, m.world.self, m.Node, "server", m.addr().String(), m.world.path(testca.Cert), m.world.path(testca.Key), m.control())
	m.apply()
}

func (m *machine) control() string { return m.world.path(m.Name + ".sock") }

// apply sends the server its mode.
func (m *machine) apply() {
	m.world.t.Helper()
	var err error
	for range 200 {
		if err = post(m.world.t.Context(), m.control(), "/mode", m.mode, nil); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.world.t.Fatalf("%s: %v\n%s", m.Name, err, m.proc.Tail(5))
}

func (m *machine) set(change func(*mode)) {
	m.world.t.Helper()
	change(&m.mode)
	m.apply()
}

func (m *machine) signal(s syscall.Signal) {
	m.world.t.Helper()
	if err := m.proc.Signal(s); err != nil {
		m.world.t.Fatal(err)
	}
}

func (m *machine) kill() {
	m.world.t.Helper()
	if err := m.proc.Kill(); err != nil {
		m.world.t.Fatal(err)
	}
	<-m.proc.Exited()
}

func (w *world) cut(name string) {
	w.t.Helper()
	if err := w.net.Cut(w.t.Context(), name); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) restore(name string) {
	w.t.Helper()
	if err := w.net.Restore(w.t.Context(), name); err != nil {
		w.t.Fatal(err)
	}
}

// blackhole loses all packets from one node to another, by a neighbour entry with an unused MAC address.
func (w *world) blackhole(from *netns.Node, to netip.Addr) { w.neighbour(from, to, "replace") }

// clearNeighbour removes the entry again.
func (w *world) clearNeighbour(from *netns.Node, to netip.Addr) { w.neighbour(from, to, "del") }

// pinNeighbours makes the neighbour entries between the worker and servers permanent.
func (w *world) pinNeighbours(servers []*machine) {
	w.t.Helper()
	for _, m := range servers {
		w.neighbour(w.worker, m.IPv4, "change")
		w.neighbour(m.Node, w.worker.IPv4, "change")
	}
}

// unpinNeighbours undoes pinNeighbours.
func (w *world) unpinNeighbours(servers []*machine) {
	w.t.Helper()
	for _, m := range servers {
		w.clearNeighbour(w.worker, m.IPv4)
		w.clearNeighbour(m.Node, w.worker.IPv4)
	}
}

func (w *world) neighbour(from *netns.Node, to netip.Addr, verb string) {
	w.t.Helper()
	pid := strconv.Itoa(from.Holder().PID())
	link, err := exec.Command("nsenter", "-t", pid, "-n", "ip", "-o", "route", "get", to.String()).Output()
	if err != nil {
		w.t.Fatal(err)
	}
	fields := strings.Fields(string(link))
	dev := ""
	for i, f := range fields[:len(fields)-1] {
		if f == "dev" {
			dev = fields[i+1]
		}
	}
	args := []string{"-t", pid, "-n", "ip", "neigh", verb, to.String(), "dev", dev}
	switch verb {
	case "replace":
		args = append(args, "lladdr", "02:00:00:00:00:fe", "nud", "permanent")
	case "change":
		args = append(args, "nud", "permanent")
	}
	if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip neigh %s: %v: %s", verb, err, out)
	}
}
