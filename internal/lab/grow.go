package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/identity"
)

// Template is what the next worker of a group is created as. Its values are the names of the planner's classes.
type Template string

// The templates. To the lab the last three are the same: muster-agent, with whatever addresses the cluster has.
const (
	BornGossip     Template = "gossip"
	BornUnresolved Template = "unresolved" // has no address, and never joins
	BornHybrid     Template = "hybrid"
	BornNone       Template = "none"
	BornList       Template = "list"
)

// programs returns what a worker of the template runs.
func (t Template) programs() []Program {
	switch t {
	case BornGossip:
		return []Program{Peer}
	case BornUnresolved:
		return nil
	}
	return []Program{Agent}
}

// Declared is state that on a real cluster is in the state store and the cloud and not in any process. The lab only
// records it, but Templates and Lookup affect workers that boot.
type Declared struct {
	None       bool                // spec.topology.dns.type
	Agent      bool                // the workers' groups have muster-agent
	Quiet      bool                // the control plane's templates do not gossip
	Templates  map[string]Template // what the next worker of a group is created as
	Before     *Declared           // versions before the last update; nil if there was none
	Lookup     bool                // workers may look for the overlay's seeds
	Policy     bool                // the same, by a temporary policy
	Controller bool                // dns-controller is deployed
	Bridge     bool                // the load balancer is in the overlay's records
	Ports      bool                // gossip ports are open
}

func (d Declared) clone() Declared {
	d.Templates = maps.Clone(d.Templates)
	if d.Before != nil {
		before := d.Before.clone()
		d.Before = &before
	}
	return d
}

// declared returns what a lab of this topology starts with.
func (l Layout) declared(start cluster.Topology) Declared {
	gossips := start != cluster.None
	d := Declared{
		None: !gossips, Quiet: !gossips, Controller: gossips, Ports: gossips,
		Lookup: start == cluster.Gossip, Templates: make(map[string]Template),
	}
	born := map[cluster.Topology]Template{cluster.Gossip: BornGossip, cluster.Hybrid: BornHybrid, cluster.None: BornNone}[start]
	if born != BornGossip && !l.LoadBalancer.IsValid() {
		born = BornList
	}
	for _, g := range l.Groups(identity.Worker) {
		d.Templates[g] = born
	}
	return d
}

// Declared returns the current declared state.
func (l *Lab) Declared() Declared {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.declared.clone()
}

// Declare changes the declared state. Running nodes are not affected.
func (l *Lab) Declare(d Declared) error {
	known := l.Layout().Groups(identity.Worker)
	for g := range d.Templates {
		if !slices.Contains(known, g) {
			return fmt.Errorf("the lab has no group of workers %q", g)
		}
	}
	l.mu.Lock()
	l.declared = d.clone()
	l.mu.Unlock()
	return l.writeSeeds()
}

// updateDeclared changes the declared state as an operation implies.
func (l *Lab) updateDeclared(change func(*Declared)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.declared)
}

// BornAs returns the template that a worker was created from.
func (l *Lab) BornAs(name string) (Template, error) {
	m, err := l.machine(name)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.template, nil
}

// AddWorker creates a new machine in a group, without any state, and boots it by the group's current template. If a
// machine of that name exists, it is booted unless it is up. A machine that does not come up is kept, so that the
// reason can be found; see [Lab.Tail] and [Lab.RemoveWorker].
func (l *Lab) AddWorker(ctx context.Context, group, name string) error {
	m, err := l.machine(name)
	if err != nil {
		if m, err = l.install(ctx, group, name); err != nil {
			return fmt.Errorf("add worker %s: %w", name, err)
		}
	}
	if l.kopsWorkers() {
		return fmt.Errorf("add worker %s: the lab's workers are kOps's own, which are replaced in their place", name)
	}
	if m.Group != group || !m.isWorker() {
		return fmt.Errorf("add worker %s: there is a node of that name in group %s", name, m.Group)
	}
	if err := m.boot(ctx, l); err != nil {
		return fmt.Errorf("add worker %s: %w", name, err)
	}
	return nil
}

// install creates a machine.
func (l *Lab) install(ctx context.Context, group, name string) (*machine, error) {
	l.mu.Lock()
	template, known := l.declared.Templates[group]
	node := Node{Name: name, Group: group, Role: identity.Worker, Addr: l.layout.nextFree}
	l.layout.nextFree = node.Addr.Next()
	l.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("the lab has no group of workers %q", group)
	}
	m := newMachine(node, filepath.Join(l.cfg.Dir, name), l.legacy())
	m.template = template
	m.want(append(template.programs(), Kubelet)...)
	if err := os.RemoveAll(m.dir); err != nil { // of a removed machine of that name
		return nil, err
	}
	if err := m.prepare(l, l.overlayKey); err != nil {
		return nil, err
	}
	if m.wanted[Agent] {
		if err := l.writeToken(m); err != nil {
			return nil, err
		}
	}
	if l.net != nil {
		var err error
		if m.space, err = l.addNamespace(ctx, name, node.Addr, m.path("hosts")); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.machines[name] = m
	l.layout.Nodes = append(slices.Clip(l.layout.Nodes), node)
	return m, nil
}

// RemoveWorker shuts a worker down in order and removes it, also from the API. What it measured is kept. A worker
// that does not exist counts as removed.
func (l *Lab) RemoveWorker(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return nil
	}
	if !m.isWorker() {
		return fmt.Errorf("remove %s: it is no worker", name)
	}
	if err := m.shutDown(ctx); err != nil {
		return fmt.Errorf("remove worker %s: %w", name, err)
	}
	if err := m.readSamples(); err != nil {
		return fmt.Errorf("remove worker %s: %w", name, err)
	}
	if err := l.deleteNode(ctx, name); err != nil {
		return fmt.Errorf("remove worker %s: %w", name, err)
	}
	l.mu.Lock()
	delete(l.machines, name)
	l.layout.Nodes = slices.DeleteFunc(slices.Clone(l.layout.Nodes), func(n Node) bool { return n.Name == name })
	l.removed[name] = m
	l.mu.Unlock()
	if l.net == nil {
		return nil
	}
	return l.net.RemoveNode(ctx, name)
}

// shutDown stops everything on a node in order: first what uses the API, so that it does not see what follows.
func (m *machine) shutDown(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = true
	var errs []error
	for _, p := range []Program{Kubelet, Agent, Peer} {
		if process := m.running[p]; process != nil {
			errs = append(errs, process.Stop(ctx, stopGrace))
		}
	}
	clear(m.running)
	return errors.Join(errs...)
}

// Departed returns what the probers of removed workers have measured, by name.
func (l *Lab) Departed() map[string]Observation {
	l.mu.Lock()
	gone := maps.Clone(l.removed)
	l.mu.Unlock()
	all := make(map[string]Observation)
	for name, m := range gone {
		all[name] = m.observation()
	}
	return all
}

// Tail returns the ends of the logs of a node's programs.
func (l *Lab) Tail(name string) (string, error) {
	m, err := l.machine(name)
	if err != nil {
		return "", err
	}
	return m.tail(), nil
}

// JoinGossip starts muster-peer on a control-plane node again: in place of muster-agent, or next to it if the peer
// cannot serve workers. It undoes [Lab.LeaveGossip].
func (l *Lab) JoinGossip(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	if m.isWorker() {
		return fmt.Errorf("%s is no control-plane node", name)
	}
	if !m.legacy {
		if err := m.stop(ctx, Agent); err != nil {
			return err
		}
	}
	m.mu.Lock()
	m.wanted[Peer] = true
	up := m.off || m.alive(Peer)
	if !up {
		err = m.start(ctx, l, Peer)
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return m.awaitDaemons(ctx)
}

// Serves reports whether a control-plane node is configured to serve workers.
func (l *Lab) Serves(name string) (bool, error) {
	m, err := l.machine(name)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.discovery, nil
}

// Balances reports whether the lab's load balancer runs, and whether it has a listener for the worker-facing service.
func (l *Lab) Balances() (api, discovery bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	up := l.balancer != nil
	return up, up && l.exposed
}
