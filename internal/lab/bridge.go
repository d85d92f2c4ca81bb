package lab

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab/proc"
)

// Gossips reports whether the lab's overlays are kOps's, into which a leaf can publish.
func (l *Lab) Gossips() bool { return l.legacy() }

// PublishBalancer adds the load balancer to the records of the legacy overlays, as a leaf that joins, writes and
// leaves. The control plane's own addresses stay in the records: its peers keep them there, and keep the balancer too
// while it answers. A leaf that wrote the balancer alone would only be corrected.
func (l *Lab) PublishBalancer(ctx context.Context) error {
	layout := l.Layout()
	if err := l.publish(ctx, layout.addrs(APIPort), layout.balancer(APIPort)); err != nil {
		return err
	}
	l.updateDeclared(func(d *Declared) { d.Bridge = true })
	return nil
}

// WithdrawBalancer removes the load balancer from the records by writing the previous addresses: a record is never
// withdrawn while nodes read it.
func (l *Lab) WithdrawBalancer(ctx context.Context) error {
	if err := l.publish(ctx, l.Layout().addrs(APIPort), nil); err != nil {
		return err
	}
	l.updateDeclared(func(d *Declared) { d.Bridge = false })
	return nil
}

// publish runs muster gossip publish for each name of the cluster.
func (l *Lab) publish(ctx context.Context, members, balancer []netip.AddrPort) error {
	if !l.legacy() {
		return fmt.Errorf("publish the load balancer: the lab's overlay is %s, which takes records from control-plane nodes only", l.cfg.Overlay)
	}
	var at, addrs []string
	for _, n := range l.Layout().ControlPlane() {
		if m, err := l.machine(n.Name); err == nil && m.isRunning(Peer) {
			at = append(at, n.Addr.String())
		}
	}
	if len(at) == 0 {
		return nil // without peers there are no records
	}
	for _, a := range members {
		addrs = append(addrs, a.Addr().String())
	}
	for _, a := range balancer {
		addrs = append(addrs, a.Addr().String())
	}
	// With two overlays the peers copy to the secondary what they read from the primary, and would undo what was
	// written to the secondary alone.
	overlay := Weave
	primary, _ := l.overlays()
	if primary == cluster.ProtocolMemberlist {
		overlay = KopsMemberlist
	}
	for _, name := range []string{"api.internal", "kops-controller.internal"} {
		args := []string{
			"gossip", "publish", name + "." + l.cfg.Cluster.Name,
			"--at=" + strings.Join(at, ","), "--overlay=" + string(overlay), "--cluster=" + l.cfg.Cluster.Name,
			"--network=" + l.Layout().Network.String(), fmt.Sprintf("--check-port=%d", APIPort), "--yes",
		}
		if l.gossipSecrets()["gossip-secret"].Set() && overlay == Weave {
			args = append(args, "--secret-file="+l.path(filepath.Join(l.Layout().ControlPlane()[0].Name, "gossip-secret")))
		}
		spec := proc.Spec{Name: "leaf for " + name, Path: l.cfg.Programs.Muster, Args: append(args, addrs...), LogFile: l.path("leaf.log")}
		if l.balancerSpace != nil {
			spec.Wrap = l.balancerSpace.Wrap
		}
		process, err := l.sup.Start(ctx, spec)
		if err != nil {
			return err
		}
		if err := process.Wait(ctx); err != nil {
			return fmt.Errorf("publish %s: %w", name, err)
		}
	}
	return nil
}

// isRunning reports whether a program runs on the node.
func (m *machine) isRunning(p Program) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.alive(p)
}
