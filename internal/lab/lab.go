// Package lab runs a cluster on one machine: every node of a spec as real processes with its own address, a load
// balancer, and an API server on each control-plane node. Rehearsals run on it.
//
// The node programs are the real ones, unchanged and configured by files as on a real node. The API server is built
// in and small, and says so, or is the real one with an etcd of the lab's; see [Kubernetes]. Its client, the "kubelet
// stand-in", registers a Node and keeps it ready. Without network namespaces every node is an address of 127.0.0.0/8;
// with them (Linux, root) each node also has its own network and /etc/hosts.
//
// Nothing outlives a lab: [Run] owns every process, and the kernel ends them even if Run's process is killed.
package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/lab/proc"
)

// Programs are the paths of the programs that a lab runs.
type Programs struct{ Muster, Peer, Agent string }

// FindPrograms finds the node programs next to the running muster.
func FindPrograms() (Programs, error) {
	self, err := os.Executable()
	if err != nil {
		return Programs{}, fmt.Errorf("find own program: %w", err)
	}
	return ProgramsIn(filepath.Dir(self))
}

// ProgramsIn returns the programs in a directory; the error says which is missing.
func ProgramsIn(dir string) (Programs, error) {
	p := Programs{
		Muster: filepath.Join(dir, "muster"),
		Peer:   filepath.Join(dir, "muster-peer"),
		Agent:  filepath.Join(dir, "muster-agent"),
	}
	for _, path := range []string{p.Muster, p.Peer, p.Agent} {
		if _, err := os.Stat(path); err != nil {
			return Programs{}, fmt.Errorf("a lab runs muster, muster-peer and muster-agent from one directory: %w; make build puts them into bin/", err)
		}
	}
	return p, nil
}

// Config configures a lab.
type Config struct {
	// Cluster is the spec of the cluster. Required.
	Cluster *cluster.Cluster
	// Start is the topology to start in: gossip, hybrid (the control plane
	// gossips, the workers do not) or none. Required.
	Start cluster.Topology
	// Boots makes the workers kOps's own, which boot as nodeup does: by group, what they were and will be created
	// with; Start decides for groups without an entry. Nil makes workers run Muster's programs.
	Boots map[string]Boot
	// Overlay is the gossip overlay. Empty means that of OverlayOf.
	Overlay Overlay
	// Dir is for configuration, state and logs. It must be empty or missing.
	Dir string
	// Programs are the programs to run. Required.
	Programs Programs
	// Netns gives every node a network namespace. It needs root on Linux.
	Netns bool
	// Kubernetes are the programs of a real control plane, which needs Netns: Kubernetes refuses API servers that
	// advertise a loopback address. The zero value means the built-in API server.
	Kubernetes Kubernetes
	// Bare omits the kubelet stand-ins: nothing calls the API and nothing is probed. For benchmarks of the node
	// programs alone.
	Bare bool
	// Log gets the starts and ends of processes; nil discards.
	Log *slog.Logger
}

// Lab is a running lab. Its methods are safe for concurrent use.
type Lab struct {
	cfg           Config
	log           *slog.Logger
	sup           *proc.Supervisor
	net           *netns.Network // nil without namespaces
	ca            *enrol.CA
	loopbackClaim net.Listener // reserves the lab's addresses against other labs

	overlayKey    string      // of the native overlay; set before anything runs
	balancerSpace *netns.Node // set before anything runs; nil without namespaces

	mu       sync.Mutex // guards the fields below; never held while waiting
	layout   Layout
	machines map[string]*machine
	balancer *proc.Process // nil while it does not run
	exposed  bool          // the balancer has a discovery listener
	revision int           // of the balancer's settings
	declared Declared
	removed  map[string]*machine // workers that were removed

	templates         map[string]cloud.BootPath // what the next worker of a group is created with
	controllerRetired bool                      // dns-controller is gone
}

// startTimeout bounds the start of a lab on a busy machine. Each real API server needs seconds of processor time.
func (l *Lab) startTimeout() time.Duration {
	if l.cfg.Kubernetes.Real() {
		return 4 * time.Minute
	}
	return time.Minute
}

// Run starts a lab, calls use once every node works, and stops the lab when use returns or ctx ends.
func Run(ctx context.Context, cfg Config, use func(context.Context, *Lab) error) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := newLab(cfg)
	if err != nil {
		return err
	}
	if l.loopbackClaim != nil {
		defer l.loopbackClaim.Close()
	}
	// The supervisor and the network end after everything that runs on them.
	base, endBase := context.WithCancel(context.WithoutCancel(ctx))
	defer endBase()
	var infrastructure errgroup.Group
	infrastructure.Go(func() error { return l.sup.Run(base) })
	if l.net != nil {
		infrastructure.Go(func() error { return l.net.Run(base) })
	}
	g, ctx := errgroup.WithContext(ctx)
	done, finish := context.WithCancel(ctx)
	g.Go(func() error { return l.collectSamples(done) })
	if l.kopsWorkers() {
		g.Go(func() error { return l.runNodeups(done) })
	}
	g.Go(func() error {
		defer finish()
		if err := l.startAll(ctx); err != nil {
			return fmt.Errorf("start the lab: %w", err)
		}
		return use(ctx, l)
	})
	err = g.Wait()
	endBase()
	return errors.Join(err, infrastructure.Wait())
}

func newLab(cfg Config) (*Lab, error) {
	if cfg.Overlay == "" {
		cfg.Overlay = OverlayOf(cfg.Cluster)
	}
	l := &Lab{
		cfg: cfg, log: cfg.Log, sup: proc.New(cfg.Log),
		machines: make(map[string]*machine), removed: make(map[string]*machine),
		templates: make(map[string]cloud.BootPath),
	}
	if cfg.Kubernetes.Real() && !cfg.Netns {
		return nil, &UsageError{errors.New("real API servers need a network of their own: Kubernetes refuses those that advertise a loopback address; add --netns (Linux, root)")}
	}
	network := netip.MustParsePrefix("10.213.0.0/16")
	err := os.MkdirAll(cfg.Dir, 0o755)
	if err != nil {
		return nil, err
	}
	if cfg.Netns {
		if err := netns.Check(); err != nil {
			return nil, &UsageError{fmt.Errorf("--netns: %w", err)}
		}
		l.net, err = netns.New(netns.Config{Supervisor: l.sup, Self: cfg.Programs.Muster, LogDir: cfg.Dir, IPv4: network, Log: cfg.Log})
	} else {
		network, l.loopbackClaim, err = claimLoopback()
	}
	if err != nil {
		return nil, err
	}
	if l.layout, err = NewLayout(cfg.Cluster, network); err != nil {
		return nil, err
	}
	l.declared = l.layout.declared(cfg.Start)
	l.declared.Lookup = l.declared.Lookup || l.kopsWorkers() // until Declare says what was observed
	for _, n := range l.layout.Nodes {
		m := newMachine(n, filepath.Join(cfg.Dir, n.Name), l.legacy())
		m.template = l.declared.Templates[n.Group]
		if l.kopsWorkers() && m.isWorker() {
			boot := l.bootOf(n.Group)
			m.bootPath, l.templates[n.Group] = boot.Lives, boot.Template
		}
		l.machines[n.Name] = m
	}
	return l, nil
}

// UsageError is a fault of the requested lab.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// claimLoopback picks a /16 of 127.0.0.0/8 that no other lab uses, and reserves it by listening on a port in it.
func claimLoopback() (netip.Prefix, net.Listener, error) {
	var last error
	for _, second := range rand.Perm(160) {
		b := byte(80 + second)
		ln, err := net.Listen("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, b, 255, 254}), 7900).String())
		if err == nil {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, b, 0, 0}), 16), ln, nil
		}
		last = err
	}
	return netip.Prefix{}, nil, &UsageError{fmt.Errorf("no free loopback network for a lab: %w; end other labs (muster lab down), or use Linux", last)}
}

// Layout returns the nodes with their current addresses.
func (l *Lab) Layout() Layout {
	l.mu.Lock()
	defer l.mu.Unlock()
	layout := l.layout
	layout.Nodes = slices.Clone(layout.Nodes)
	return layout
}

// Dir returns the directory of the lab's files.
func (l *Lab) Dir() string { return l.cfg.Dir }

// machine returns a node's machine.
func (l *Lab) machine(name string) (*machine, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, ok := l.machines[name]
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrNoNode, name)
	}
	return m, nil
}

// ErrNoNode says that the lab has no node of that name.
var ErrNoNode = errors.New("the lab has no node")

// writeSecrets creates the CA, every control-plane node's identity, the API servers' certificates and the overlay's
// keyring.
func (l *Lab) writeSecrets() error {
	var nodes []enrol.ControlPlaneNode
	for _, n := range l.layout.ControlPlane() {
		nodes = append(nodes, enrol.ControlPlaneNode{Name: n.Name})
	}
	var err error
	if l.ca, err = enrol.InitControlPlane(l.path("pki"), l.cfg.Cluster.Name, nodes, time.Now()); err != nil {
		return err
	}
	if err := os.Mkdir(l.path("etcd"), 0o755); err != nil {
		return err
	}
	if l.cfg.Kubernetes.Real() {
		if err := l.writeKubernetes(); err != nil {
			return err
		}
	}
	if err := l.issueClient(l.path("pki/operator"), "muster lab", "system:masters"); err != nil {
		return err
	}
	if l.overlayKey, err = newOverlayKey(); err != nil {
		return err
	}
	for _, m := range l.machines {
		if err := m.prepare(l, l.overlayKey); err != nil {
			return fmt.Errorf("prepare node %s: %w", m.Name, err)
		}
	}
	return l.writeSeeds()
}

// addNamespaces gives every node its network namespace.
func (l *Lab) addNamespaces(ctx context.Context, layout Layout) error {
	if l.net == nil {
		return nil
	}
	for _, n := range layout.Nodes {
		m, err := l.machine(n.Name)
		if err != nil {
			return err
		}
		if m.space, err = l.addNamespace(ctx, n.Name, n.Addr, m.path("hosts")); err != nil {
			return err
		}
	}
	if layout.LoadBalancer.IsValid() {
		var err error
		if l.balancerSpace, err = l.addNamespace(ctx, "load-balancer", layout.LoadBalancer, l.path("load-balancer.hosts")); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) addNamespace(ctx context.Context, name string, addr netip.Addr, hosts string) (*netns.Node, error) {
	return l.net.AddNode(ctx, netns.NodeSpec{Name: name, HostsFile: hosts, IPv4: addr})
}

// writeSeeds writes the addresses of the overlay's control-plane members, as a cloud's instance list would have them,
// for the nodes that may read it.
func (l *Lab) writeSeeds() error {
	var seeds []byte
	for _, n := range l.Layout().ControlPlane() {
		if l.legacy() {
			// As protokube gets them from the cloud: without ports.
			seeds = fmt.Appendln(seeds, n.Addr)
		} else {
			seeds = fmt.Appendln(seeds, netip.AddrPortFrom(n.Addr, overlayPort))
		}
	}
	err := replaceFile(l.path("seeds"), seeds, 0o644)
	if !l.mayBoot() {
		seeds = nil
	}
	return errors.Join(err, replaceFile(l.path("seeds.workers"), seeds, 0o644))
}

// seedsFile returns the path of a node's file of seeds.
func (l *Lab) seedsFile(m *machine) string {
	if m.isWorker() {
		return l.path("seeds.workers")
	}
	return l.path("seeds")
}

func (l *Lab) path(name string) string { return filepath.Join(l.cfg.Dir, name) }

// isWorker reports whether the node is a worker.
func (m *machine) isWorker() bool { return m.Role == identity.Worker }
