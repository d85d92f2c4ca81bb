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

// tokenLifetime is how long a worker's enrolment token is valid.
const tokenLifetime = 10 * time.Minute

// PowerOn boots a node: it starts everything in its template.
func (l *Lab) PowerOn(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	return m.boot(ctx, l)
}

// PowerOff kills everything on a node at once, without warning.
func (l *Lab) PowerOff(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	return m.powerOff(ctx)
}

// Reboot is PowerOff and PowerOnAsBefore with a pause between them.
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

// PowerOnAsBefore boots a node that was powered off with the files it had: with its original configuration, not the
// one that it would get now.
func (l *Lab) PowerOnAsBefore(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	m.restartTally()
	return m.boot(ctx, l)
}

// Command returns the command line that runs a program on a node, as if started there.
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

// StartAgent starts muster-agent on a worker, next to its predecessor: it gets its boot configuration and a one-time
// token, and takes over the hosts block when the predecessor releases it. The agent becomes part of the node's
// template.
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

// writeToken writes a one-time enrolment token for a worker.
func (l *Lab) writeToken(m *machine) error {
	tokens := enrol.TokenStore{Path: l.path("tokens.json")}
	token, err := tokens.Create(tokenLifetime, m.Name, time.Now())
	if err != nil {
		return fmt.Errorf("token for %s: %w", m.Name, err)
	}
	return os.WriteFile(m.path("token"), []byte(token.Text()+"\n"), 0o600)
}

// StopAgent removes muster-agent from a worker.
func (l *Lab) StopAgent(ctx context.Context, name string) error { return l.stop(ctx, name, Agent) }

// StopPeer removes muster-peer from a node.
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

// restart restarts a program with a new configuration. A node that is off gets the new configuration when it boots.
func (l *Lab) restart(ctx context.Context, m *machine, p Program) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.wanted[p] {
		return nil
	}
	if err := m.removeConfigs(p); err != nil {
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

// ServeDiscovery makes a control-plane node serve enrolment and the endpoint stream: by restarting its peer with that
// in its configuration or, if the peer is in protokube's place and does not support it, by muster-agent next to it.
func (l *Lab) ServeDiscovery(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	m.setDiscovery(true)
	if err := l.startDiscovery(ctx, m); err != nil {
		m.setDiscovery(false) // so that the step does not look done
		return err
	}
	return nil
}

func (l *Lab) startDiscovery(ctx context.Context, m *machine) error {
	if !m.legacy {
		return l.restart(ctx, m, Peer)
	}
	if err := l.addAgent(ctx, m); err != nil {
		return err
	}
	return m.awaitDaemons(ctx)
}

func (m *machine) setDiscovery(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.discovery = yes
}

// addAgent adds muster-agent to a node's template, and starts it unless it runs or the node is off.
func (l *Lab) addAgent(ctx context.Context, m *machine) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted[Agent] = true
	if m.off || m.alive(Agent) {
		return nil
	}
	return m.start(ctx, l, Agent)
}

// LeaveGossip replaces muster-peer by muster-agent on a control-plane node. In between the node serves no stream,
// unless the agent is there already; its API server keeps serving.
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

// ChangeAddress gives a control-plane node another address, like a replaced instance: it is powered off and boots
// elsewhere under the same name.
func (l *Lab) ChangeAddress(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	if err := m.powerOff(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	addr := l.layout.nextFree
	l.layout.nextFree = addr.Next()
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
		if space, err = l.addNamespace(ctx, m.Name, addr, m.path("hosts")); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.space, m.Addr = space, addr
	return m.removeConfigs(APIServer, KubeAPIServer, Peer, Agent)
}

// SplitOverlay splits the overlay in two: the named nodes reach each other and nobody else. The network itself is not
// changed. heal undoes it.
//
// On the native overlay they get another key, so that every datagram from the other side is refused. Legacy overlays
// have no keys; there the peers of the named nodes are restarted on other ports, with each other as seeds.
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
		mend, err := l.splitNode(ctx, m, key)
		if err != nil {
			return heal, err
		}
		undo = append(undo, mend)
	}
	return heal, nil
}

// splitNode splits one node off.
func (l *Lab) splitNode(ctx context.Context, m *machine, key string) (mend func(context.Context) error, err error) {
	if l.legacy() {
		setSplit := func(ctx context.Context, split bool) error {
			m.mu.Lock()
			m.split = split
			m.mu.Unlock()
			return l.restart(ctx, m, Peer)
		}
		return func(ctx context.Context) error { return setSplit(ctx, false) }, setSplit(ctx, true)
	}
	path := m.path("overlay.keys")
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	mend = func(context.Context) error { return replaceFile(path, old, 0o600) }
	return mend, replaceFile(path, []byte(key), 0o600)
}

// writeSplitSeeds writes the seeds of the nodes that are split off.
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

// Socket returns the address of a node program's status.
func (l *Lab) Socket(name string, p Program) (node.Status, error) {
	m, err := l.machine(name)
	if err != nil {
		return node.Status{}, err
	}
	return node.Status{Socket: m.socket(p)}, nil
}
