package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/node"
)

// Boot says how the workers of a group boot if they are kOps's own.
type Boot struct {
	// Lives is what the current workers were created with. Those with a name that nothing resolves never joined, and
	// still try.
	Lives cloud.BootPath
	// Template is what the next worker of the group is created with.
	Template cloud.BootPath
}

// kopsWorkers reports whether the lab's workers are kOps's own.
func (l *Lab) kopsWorkers() bool { return l.cfg.Boots != nil }

// bootOf returns how a group boots at first; by default the topology decides.
func (l *Lab) bootOf(group string) Boot {
	path := cloud.BootAddresses
	if l.cfg.Start == cluster.Gossip {
		path = cloud.BootGossip
	}
	b := l.cfg.Boots[group]
	for _, p := range []*cloud.BootPath{&b.Lives, &b.Template} {
		if *p == "" || *p == cloud.BootUnknown {
			*p = path
		}
	}
	return b
}

// nodeupInterval is how often a worker that has not joined tries again; kOps's nodeup waits half a minute.
const nodeupInterval = 200 * time.Millisecond

// runNodeups performs the work of kOps's nodeup on every booting worker, repeatedly until ctx ends.
func (l *Lab) runNodeups(ctx context.Context) error {
	tick := time.NewTicker(nodeupInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var tries sync.WaitGroup
		for _, n := range l.Layout().Workers() {
			m, err := l.machine(n.Name)
			if err != nil {
				continue // it has just been removed
			}
			if bootID, booting := m.booting(); booting {
				tries.Go(func() { m.setBootResult(bootID, l.nodeup(ctx, m, bootID)) })
			}
		}
		tries.Wait()
	}
}

// nodeup tries once to bring a worker from power-on to a running kubelet, as kOps's nodeup does. The error says what
// it waits for. bootID is the boot that the attempt belongs to: after that it has no effect.
func (l *Lab) nodeup(ctx context.Context, m *machine, bootID int) error {
	m.mu.Lock()
	born := m.bootPath
	m.mu.Unlock()
	switch born {
	case cloud.BootGossip:
		return l.nodeupGossip(ctx, m, bootID)
	case cloud.BootAddresses:
		return l.nodeupAddresses(ctx, m, bootID)
	}
	return fmt.Errorf("it asks for its configuration under a name that nothing resolves, kops-controller.internal.%s", l.cfg.Cluster.Name)
}

// nodeupGossip reads the state store and leaves the names to protokube.
func (l *Lab) nodeupGossip(ctx context.Context, m *machine, bootID int) error {
	if !l.mayBoot() {
		return errors.New("its role may no longer list instances and read the state store, so it finds no seed")
	}
	if err := m.startDuring(ctx, l, bootID, Peer); err != nil {
		return err
	}
	report, err := node.Ask(ctx, node.Status{Socket: m.socket(Peer)})
	if err != nil || len(report.Services) == 0 || len(report.Services[0].Serving) == 0 || !m.hostsReady(report) {
		return errors.New("its peer knows no address of the API yet")
	}
	return m.startDuring(ctx, l, bootID, Kubelet)
}

// nodeupAddresses gets the node's configuration through the load balancer and writes its addresses into the hosts
// block, once: nothing changes them later. The worker-facing service answers in place of kops-controller.
func (l *Lab) nodeupAddresses(ctx context.Context, m *machine, bootID int) error {
	layout := l.Layout()
	if !layout.LoadBalancer.IsValid() {
		return errors.New("it was born with addresses of a load balancer that is not there")
	}
	at := netip.AddrPortFrom(layout.LoadBalancer, node.DiscoveryPort)
	if err := l.Call(ctx, m.Name, at, enrol.ServerName(l.cfg.Cluster.Name), "/healthz"); err != nil {
		return fmt.Errorf("it asks %s for its configuration: %w", at, err)
	}
	names := []string{"api.internal." + l.cfg.Cluster.Name, "kops-controller.internal." + l.cfg.Cluster.Name}
	entry := hosts.Entry{Addr: layout.LoadBalancer, Names: names}
	if err := m.duringBoot(bootID, func() error { return m.rewriteHosts(entry) }); err != nil {
		return err
	}
	return m.startDuring(ctx, l, bootID, Kubelet)
}

// errStaleBoot is returned to an attempt of an earlier boot.
var errStaleBoot = errors.New("the node was switched off")

// duringBoot calls do with the machine locked, if the node is still in the given boot.
func (m *machine) duringBoot(bootID int, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off || m.bootID != bootID {
		return errStaleBoot
	}
	return do()
}

// startDuring starts a program unless it runs, in the given boot only.
func (m *machine) startDuring(ctx context.Context, l *Lab, bootID int, p Program) error {
	return m.duringBoot(bootID, func() error {
		m.wanted[p] = true
		if m.alive(p) {
			return nil
		}
		return m.start(ctx, l, p)
	})
}

// rewriteHosts replaces the block of the node's hosts file in place; without entries it removes the block. The caller
// holds m.mu.
func (m *machine) rewriteHosts(entries ...hosts.Entry) error {
	content, err := os.ReadFile(m.path("hosts"))
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		content, _ = hosts.Strip(content)
	} else if content, _, err = hosts.Render(content, entries); err != nil {
		return err
	}
	return os.WriteFile(m.path("hosts"), content, 0o644)
}

// booting reports whether the node is one of kOps's, is on and has no kubelet yet, and returns the ID of its boot.
func (m *machine) booting() (bootID int, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bootID, m.bootPath != "" && !m.off && m.waitingFor != ""
}

// setBootResult records the result of an attempt of nodeup.
func (m *machine) setBootResult(bootID int, err error) {
	_ = m.duringBoot(bootID, func() error {
		m.waitingFor = ""
		if err != nil {
			m.waitingFor = err.Error()
		}
		return nil
	}) // results of an earlier boot are dropped
}

// Boot returns what a worker of kOps's waits for between power-on and its kubelet; empty once that runs.
func (l *Lab) Boot(name string) (waitingFor string, err error) {
	m, err := l.machine(name)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waitingFor, nil
}

// SetTemplate changes what the next worker of a group is created with. Existing ones are not affected.
func (l *Lab) SetTemplate(group string, path cloud.BootPath) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.templates[group] = path
}

// Permit sets whether the workers' cloud role lets a gossiping worker boot: it must list instances for its seeds, and
// read the state store.
func (l *Lab) Permit(yes bool) error {
	l.updateDeclared(func(d *Declared) { d.Lookup, d.Policy = yes, false })
	return l.writeSeeds()
}

// mayBoot reports whether the role lets a gossiping worker boot, by itself or by a temporary policy.
func (l *Lab) mayBoot() bool {
	d := l.Declared()
	return d.Lookup || d.Policy
}

// Replace replaces a worker by a new one from its group's current template, which keeps only the name and the
// address.
func (l *Lab) Replace(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	if !l.kopsWorkers() || !m.isWorker() {
		return fmt.Errorf("replace %s: it is no worker of kOps's", name)
	}
	if err := m.powerOff(ctx); err != nil {
		return err
	}
	if err := m.reimage(l); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	l.mu.Lock()
	born := l.templates[m.Group]
	l.mu.Unlock()
	m.mu.Lock()
	m.bootPath = born
	m.mu.Unlock()
	return l.PowerOnAsBefore(ctx, name)
}

// reimage resets a node that is off to its image: no state, no configuration, no block in the hosts file.
func (m *machine) reimage(l *Lab) error {
	if err := m.removeConfigs(Peer, Kubelet); err != nil {
		return err
	}
	if err := os.RemoveAll(m.stateDir(l)); err != nil {
		return err
	}
	if err := os.MkdirAll(m.stateDir(l), 0o755); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rewriteHosts()
}

// RetireController removes dns-controller, which publishes the control plane's names in kOps's overlays. In the lab
// its peers publish them, so they are restarted without that. The records stay, and nobody corrects them. With
// Muster's own overlay, which kOps does not know, it does nothing.
func (l *Lab) RetireController(ctx context.Context) error {
	l.mu.Lock()
	controllerRetired := l.controllerRetired
	l.controllerRetired = true
	l.mu.Unlock()
	if controllerRetired || !l.legacy() {
		return nil
	}
	for _, n := range l.Layout().ControlPlane() {
		m, err := l.machine(n.Name)
		if err != nil {
			return err
		}
		if err := l.restart(ctx, m, Peer); err != nil {
			return err
		}
		if err := m.awaitDaemons(ctx); err != nil {
			return err
		}
	}
	return nil
}
