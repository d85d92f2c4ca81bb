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

// Boot is how the workers of a group boot where they are kOps's own.
type Boot struct {
	// Lives is what its workers of now were born with. One that was born with a
	// name that nothing resolves never joined, and still tries.
	Lives cloud.BootPath
	// Template is what the next worker of the group is born with.
	Template cloud.BootPath
}

// kopsWorkers reports whether the lab's workers are kOps's own.
func (l *Lab) kopsWorkers() bool { return l.cfg.Boots != nil }

// bootOf returns how a group boots at first; the topology decides where nothing
// is said.
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

// nodeupEvery is how often a worker that has not joined tries again; kOps's
// nodeup waits half a minute.
const nodeupEvery = 200 * time.Millisecond

// nodeups is what kOps's nodeup does on every worker that is up and has not got
// to its end yet, again and again until ctx ends.
func (l *Lab) nodeups(ctx context.Context) error {
	tick := time.NewTicker(nodeupEvery)
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
				continue // the layout has no others
			}
			if life, booting := m.booting(); booting {
				tries.Go(func() { m.noteBoot(life, l.nodeup(ctx, m, life)) })
			}
		}
		tries.Wait()
	}
}

// nodeup tries once to get a worker from power-on to a kubelet, as kOps's nodeup
// does. The error is what it waits for. life is the boot that it belongs to: a
// try that outlives it changes nothing any more.
func (l *Lab) nodeup(ctx context.Context, m *machine, life int) error {
	m.mu.Lock()
	born := m.born
	m.mu.Unlock()
	switch born {
	case cloud.BootGossip:
		return l.nodeupGossip(ctx, m, life)
	case cloud.BootAddresses:
		return l.nodeupAddresses(ctx, m, life)
	}
	return fmt.Errorf("it asks for its configuration under a name that nothing resolves, kops-controller.internal.%s", l.cfg.Cluster.Name)
}

// nodeupGossip reads the state store and leaves the names to protokube.
func (l *Lab) nodeupGossip(ctx context.Context, m *machine, life int) error {
	if !l.permitted() {
		return errors.New("its role may no longer list instances and read the state store, so it finds no seed")
	}
	if err := m.startIn(ctx, l, life, Peer); err != nil {
		return err
	}
	report, err := node.Ask(ctx, node.Status{Socket: m.socket(Peer)})
	if err != nil || len(report.Services) == 0 || len(report.Services[0].Serving) == 0 || !m.hostsReady(report) {
		return errors.New("its peer knows no address of the API yet")
	}
	return m.startIn(ctx, l, life, Kubelet)
}

// nodeupAddresses asks the load balancer for the node's configuration and writes
// its addresses into the hosts block, once: nobody changes them later. The
// worker-facing service answers in the place of kops-controller.
func (l *Lab) nodeupAddresses(ctx context.Context, m *machine, life int) error {
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
	if err := m.inLife(life, func() error { return m.rewriteHosts(entry) }); err != nil {
		return err
	}
	return m.startIn(ctx, l, life, Kubelet)
}

// errPast is of a try that belongs to a boot of before.
var errPast = errors.New("the node was switched off")

// inLife does something to the node if it still is in the boot that it was in.
func (m *machine) inLife(life int, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off || m.life != life {
		return errPast
	}
	return do()
}

// startIn starts a program unless it runs, in that boot only.
func (m *machine) startIn(ctx context.Context, l *Lab, life int, p Program) error {
	return m.inLife(life, func() error {
		m.wanted[p] = true
		if m.alive(p) {
			return nil
		}
		return m.start(ctx, l, p)
	})
}

// rewriteHosts replaces the block of the node's hosts file, in place; without
// entries it takes the block out. The caller holds m.mu.
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

// booting reports whether the node is one of kOps's that is up and has not come
// to its kubelet, and in which boot.
func (m *machine) booting() (life int, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life, m.born != "" && !m.off && m.waits != ""
}

// noteBoot notes how a try of nodeup ended.
func (m *machine) noteBoot(life int, err error) {
	_ = m.inLife(life, func() error {
		m.waits = ""
		if err != nil {
			m.waits = err.Error()
		}
		return nil
	}) // of a boot of before nobody asks
}

// Boot returns what a worker of kOps's waits for on its way from power-on to a
// kubelet; empty once it has come there.
func (l *Lab) Boot(name string) (waits string, err error) {
	m, err := l.machine(name)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waits, nil
}

// SetTemplate changes what the next worker of a group is born with. Those that
// live are not touched.
func (l *Lab) SetTemplate(group string, path cloud.BootPath) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.templates[group] = path
}

// Permit says whether the workers' role in the cloud lets one that gossips boot:
// it lists instances for its seeds, and reads the state store.
func (l *Lab) Permit(yes bool) error {
	l.note(func(d *Declared) { d.Lookup, d.Policy = yes, false })
	return l.writeSeeds()
}

// permitted reports whether it does, by itself or by a policy that is to go again.
func (l *Lab) permitted() bool {
	d := l.Declared()
	return d.Lookup || d.Policy
}

// Replace puts a new worker in the place of one, born from its group's template
// of this moment with nothing of the old one's but its name and its address.
func (l *Lab) Replace(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	if !l.kopsWorkers() || !m.isWorker() {
		return fmt.Errorf("replace %s: it is no worker of kOps's", name)
	}
	if err := m.cut(ctx); err != nil {
		return err
	}
	if err := m.renew(l); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	l.mu.Lock()
	born := l.templates[m.Group]
	l.mu.Unlock()
	m.mu.Lock()
	m.born = born
	m.mu.Unlock()
	return l.PowerOnAsBefore(ctx, name)
}

// renew leaves of a node that is off what an image has: no state, no
// configuration, no block in the hosts file.
func (m *machine) renew(l *Lab) error {
	if err := m.forget(Peer, Kubelet); err != nil {
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

// RetireController is the end of dns-controller, which publishes the control
// plane's names in kOps's overlays: its peers, who publish in the lab, start anew
// without that. What the records say stays, and nobody corrects it. On Muster's
// own overlay, which kOps knows nothing of, it does nothing.
func (l *Lab) RetireController(ctx context.Context) error {
	l.mu.Lock()
	retired := l.retired
	l.retired = true
	l.mu.Unlock()
	if retired || !l.legacy() {
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
