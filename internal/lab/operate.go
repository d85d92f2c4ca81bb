package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/lab/proc"
	"github.com/muster-dev/muster/internal/node"
)

// tokenLifetime bounds how long a worker's enrolment token is good for.
const tokenLifetime = 10 * time.Minute

// PowerOn boots a node: whatever its template says is started.
func (l *Lab) PowerOn(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	return m.boot(ctx, l)
}

// PowerOff ends everything on a node at once, without a warning to anybody.
func (l *Lab) PowerOff(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	return m.cut(ctx)
}

// Reboot is PowerOff and PowerOn with a pause between them in which the node is
// away.
func (l *Lab) Reboot(ctx context.Context, name string, away time.Duration) error {
	if err := l.PowerOff(ctx, name); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(away):
	}
	return l.PowerOnAsBefore(ctx, name)
}

// PowerOnAsBefore boots a node that was cut off with the files it had: what it
// was configured with when it was made, not what the lab would tell it now.
func (l *Lab) PowerOnAsBefore(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	m.restartTally()
	return m.boot(ctx, l)
}

// Command returns the command line that runs a program on a node, as a person on
// it would.
func (l *Lab) Command(name string, argv ...string) ([]string, error) {
	m, err := l.machine(name)
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, err
	}
	argv = append([]string{path}, argv[1:]...)
	if space, _ := m.network(); space != nil {
		argv = space.Wrap(argv)
	}
	return argv, nil
}

// StartAgent puts muster-agent on a worker, beside what runs there: it gets its
// boot configuration and a one-time token, and the hosts block when its
// predecessor lets go of it. From now on the node's template has it.
func (l *Lab) StartAgent(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	if err := l.writeToken(m); err != nil {
		return err
	}
	if err := l.addAgent(ctx, m); err != nil {
		return err
	}
	if err := m.awaitDaemons(ctx); err != nil {
		return err
	}
	return l.restart(ctx, m, Kubelet) // it has one more path to probe
}

// writeToken puts a one-time enrolment token on a worker.
func (l *Lab) writeToken(m *machine) error {
	tokens := enrol.TokenStore{Path: l.path("tokens.json")}
	token, err := tokens.Create(tokenLifetime, m.Name, time.Now())
	if err != nil {
		return fmt.Errorf("token for %s: %w", m.Name, err)
	}
	return os.WriteFile(m.path("token"), []byte(token.Text()+"\n"), 0o600)
}

// StopAgent takes muster-agent off a worker again.
func (l *Lab) StopAgent(ctx context.Context, name string) error { return l.stop(ctx, name, Agent) }

// StopPeer takes muster-peer off a node.
func (l *Lab) StopPeer(ctx context.Context, name string) error { return l.stop(ctx, name, Peer) }

func (l *Lab) stop(ctx context.Context, name string, p Program) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	if err := m.stop(ctx, p); err != nil {
		return err
	}
	if p == Agent && m.isWorker() {
		return l.restart(ctx, m, Kubelet)
	}
	return nil
}

// restart stops a program and starts it with a new configuration. A node that is
// off, perhaps just now, gets the new configuration when it boots.
func (l *Lab) restart(ctx context.Context, m *machine, p Program) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.wanted[p] {
		return nil
	}
	if err := m.forget(p); err != nil {
		return err
	}
	if m.off {
		return nil
	}
	if old := m.running[p]; old != nil {
		if err := old.Stop(ctx, stopGrace); err != nil {
			return err
		}
	}
	return m.start(ctx, l, p)
}

// ServeDiscovery makes a control-plane node serve enrolment and the endpoint
// stream: by restarting its peer with that in its configuration, or, where the
// peer is in protokube's place and knows nothing of it, by muster-agent beside it.
func (l *Lab) ServeDiscovery(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	m.serves(true)
	if err := l.takeUpDiscovery(ctx, m); err != nil {
		m.serves(false) // so that it is seen to be left to do
		return err
	}
	return nil
}

func (l *Lab) takeUpDiscovery(ctx context.Context, m *machine) error {
	if !m.legacy {
		return l.restart(ctx, m, Peer)
	}
	if err := l.addAgent(ctx, m); err != nil {
		return err
	}
	return m.awaitDaemons(ctx)
}

func (m *machine) serves(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.discovery = yes
}

// addAgent makes muster-agent part of a node's template, and starts it unless it
// runs or the node is off.
func (l *Lab) addAgent(ctx context.Context, m *machine) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted[Agent] = true
	if m.off || m.alive(Agent) {
		return nil
	}
	return m.start(ctx, l, Agent)
}

// LeaveGossip replaces muster-peer by muster-agent on a control-plane node. For
// the moment between them the node serves no stream, unless the agent is there
// already; its API server serves on.
func (l *Lab) LeaveGossip(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	if m.Role != identity.ControlPlane {
		return fmt.Errorf("%s is no control-plane node", name)
	}
	if err := m.stop(ctx, Peer); err != nil {
		return err
	}
	return l.addAgent(ctx, m)
}

// ExposeDiscovery adds the worker-facing service to the load balancer.
func (l *Lab) ExposeDiscovery(ctx context.Context) error {
	l.mu.Lock()
	l.exposed = true
	l.mu.Unlock()
	return l.writeBalancer(ctx)
}

// StartLoadBalancer starts the load balancer, if the cluster has one.
func (l *Lab) StartLoadBalancer(ctx context.Context) error {
	if !l.Layout().LoadBalancer.IsValid() {
		return nil
	}
	if err := l.writeBalancer(ctx); err != nil {
		return err
	}
	spec := proc.Spec{
		Name:    string(LoadBalancer),
		Path:    l.cfg.Programs.Muster,
		Args:    []string{ProcessVerb, "loadbalancer", l.path("load-balancer.json")},
		LogFile: l.path("load-balancer.log"),
	}
	if l.balancerSpace != nil {
		spec.Wrap = l.balancerSpace.Wrap
	}
	process, err := l.sup.Start(ctx, spec)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.balancer = process
	l.mu.Unlock()
	return nil
}

// StopLoadBalancer kills the load balancer.
func (l *Lab) StopLoadBalancer(ctx context.Context) error {
	l.mu.Lock()
	process := l.balancer
	l.balancer = nil
	l.mu.Unlock()
	if process == nil {
		return errors.New("the lab has no load balancer")
	}
	if err := process.Kill(); err != nil {
		return err
	}
	select {
	case <-process.Exited():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ChangeAddress gives a control-plane node another address, as a replaced
// instance has: it goes, and comes back elsewhere under the same name.
func (l *Lab) ChangeAddress(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	if err := m.cut(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	addr := l.layout.spare
	l.layout.spare = addr.Next()
	for i := range l.layout.Nodes {
		if l.layout.Nodes[i].Name == name {
			l.layout.Nodes[i].Addr = addr
		}
	}
	l.mu.Unlock()
	if err := l.readdress(ctx, m, addr); err != nil {
		return err
	}
	if err := l.writeSeeds(); err != nil {
		return err
	}
	if err := l.writeBalancer(ctx); err != nil {
		return err
	}
	return m.boot(ctx, l)
}

// readdress moves a machine that is off to another address.
func (l *Lab) readdress(ctx context.Context, m *machine, addr netip.Addr) error {
	var space *netns.Node
	if l.net != nil {
		err := l.net.RemoveNode(ctx, m.Name)
		if err != nil {
			return err
		}
		if space, err = l.addSpace(ctx, m.Name, addr, m.path("hosts")); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.space, m.Addr = space, addr
	return m.forget(APIServer, KubeAPIServer, Peer, Agent)
}

// SplitOverlay cuts the overlay in two: the named nodes hear each other and
// nobody else. The network itself stays as it is. The returned function heals it.
//
// On the native overlay it gives them another key, so that every datagram from the
// other side is refused. The legacy ones have no such thing; there, the peers of
// the named nodes start anew, on other ports and with each other as seeds.
func (l *Lab) SplitOverlay(ctx context.Context, names ...string) (heal func(context.Context) error, err error) {
	var undo []func(context.Context) error
	heal = func(ctx context.Context) error {
		var errs []error
		for _, u := range undo {
			errs = append(errs, u(ctx))
		}
		return errors.Join(errs...)
	}
	var key string
	if l.legacy() {
		err = l.writeSplitSeeds(names)
	} else {
		key, err = newOverlayKey()
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		m, err := l.machine(name)
		if err != nil {
			return heal, err
		}
		mend, err := l.splitOff(ctx, m, key)
		if err != nil {
			return heal, err
		}
		undo = append(undo, mend)
	}
	return heal, nil
}

// splitOff cuts one node off.
func (l *Lab) splitOff(ctx context.Context, m *machine, key string) (mend func(context.Context) error, err error) {
	if l.legacy() {
		turn := func(ctx context.Context, split bool) error {
			m.mu.Lock()
			m.split = split
			m.mu.Unlock()
			return l.restart(ctx, m, Peer)
		}
		return func(ctx context.Context) error { return turn(ctx, false) }, turn(ctx, true)
	}
	path := m.path("overlay.keys")
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	mend = func(context.Context) error { return replaceFile(path, old, 0o600) }
	return mend, replaceFile(path, []byte(key), 0o600)
}

// writeSplitSeeds writes the seeds of the nodes that are cut off.
func (l *Lab) writeSplitSeeds(names []string) error {
	var seeds []byte
	for _, n := range l.Layout().ControlPlane() {
		if slices.Contains(names, n.Name) {
			seeds = fmt.Appendln(seeds, n.Addr)
		}
	}
	return replaceFile(l.path("seeds.split"), seeds, 0o644)
}

// HostsFile returns the path of a node's hosts file.
func (l *Lab) HostsFile(name string) (string, error) {
	m, err := l.machine(name)
	if err != nil {
		return "", err
	}
	return m.path("hosts"), nil
}

// Socket returns where a node program serves its status.
func (l *Lab) Socket(name string, p Program) (node.Status, error) {
	m, err := l.machine(name)
	if err != nil {
		return node.Status{}, err
	}
	return node.Status{Socket: m.socket(p)}, nil
}
