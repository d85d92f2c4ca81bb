package bykops

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/kubeapi"
	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/portforward"
	"github.com/muster-dev/muster/internal/report"
)

// Gossip reaches the cluster's gossip through its API server: a leaf on the operator's
// machine, connected by port-forwards to control-plane nodes. It implements [Overlay].
type Gossip struct {
	// Spec is the cluster's. Required.
	Spec *cluster.Cluster
	// Via is the kubeconfig.
	Via kubeapi.Config
}

var _ Overlay = Gossip{}

// peerTimeout bounds one peer's answer, and one write.
const peerTimeout = 30 * time.Second

// sides lists the nodes to forward through anew each time, because they are replaced
// one after the other while the bridge is up.
func (g Gossip) sides(ctx context.Context) ([]gossip.Side, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	gateway, err := portforward.Open(ctx, g.Via)
	if err != nil {
		return nil, err
	}
	var nodes []netip.Addr
	for _, p := range gateway.Pods() {
		if p.ControlPlane {
			nodes = append(nodes, p.Addr)
		}
	}
	if len(nodes) == 0 {
		return nil, errors.New("no control-plane node leads into the cluster's gossip: none has a pod with its network")
	}
	var sides []gossip.Side
	for _, c := range gossip.Configured(g.Spec) {
		port := c.Overlay.Port()
		if own := c.Config.Listen.Port(); own != 0 {
			port = own
		}
		var at []netip.AddrPort
		for _, n := range nodes {
			at = append(at, netip.AddrPortFrom(n, port))
		}
		sides = append(sides, gossip.NewSide(c.Overlay, at, []byte(c.Config.Secret.Reveal()), gateway.Dial))
	}
	return sides, nil
}

// changes computes what to write, and refuses records that the cluster's overlay must
// not hold.
func (g Gossip) changes(sides []gossip.Side, views []gossip.View, names []string, addrs []netip.Addr) ([]gossip.Change, error) {
	var all []gossip.Change
	for _, name := range names {
		p := gossip.Publication{Name: name, Addrs: addrs}
		if err := p.Check(gossip.Expect{Cluster: g.Spec.Name, Networks: g.Spec.NetworkCIDRs}); err != nil {
			return nil, err
		}
		for _, s := range sides {
			c, _, err := p.Changes(s.Overlay, gossip.Newest(views, s.Overlay), time.Now())
			if err != nil {
				return nil, err
			}
			all = append(all, c...)
		}
	}
	return all, nil
}

// Hold implements [Overlay]. The addresses need not be reachable from the operator's
// machine, so they are not tried: a worker has proven them.
func (g Gossip) Hold(ctx context.Context, names []string, addrs []netip.Addr, say func(string)) error {
	sides, err := g.sides(ctx)
	if err != nil {
		return err
	}
	views, _, err := gossip.Look(ctx, sides, peerTimeout)
	if err != nil {
		return err
	}
	changes, err := g.changes(sides, views, names, addrs)
	if err != nil {
		return err
	}
	return gossip.Hold(ctx, sides, gossip.Holding{Changes: changes, Within: peerTimeout}, func(e gossip.Event) { say(e.String()) })
}

// Carries implements [Overlay]. It passes only if every peer answers and has the
// records.
func (g Gossip) Carries(ctx context.Context, names []string, addrs []netip.Addr) (report.Verdict, string) {
	sides, err := g.sides(ctx)
	if err != nil {
		return report.Unknown, err.Error()
	}
	views, silent, err := gossip.Look(ctx, sides, peerTimeout)
	if err != nil {
		return report.Unknown, err.Error()
	}
	want := make([]string, len(addrs))
	for i, a := range addrs {
		want[i] = a.String()
	}
	slices.Sort(want)
	for _, v := range views {
		for _, name := range names {
			key := legacy.Key{Zone: legacy.Zone, Type: legacy.TypeA, Name: name}.String()
			at := slices.IndexFunc(v.State, func(e legacy.Entry) bool { return e.Key == key && !e.Record.Tombstone })
			if at < 0 {
				return report.Fail, fmt.Sprintf("%s has no record of %s", v.Addr, name)
			}
			got := strings.Split(v.State[at].Record.Value, ",")
			slices.Sort(got)
			if !slices.Equal(got, want) {
				return report.Fail, fmt.Sprintf("%s has %s for %s", v.Addr, v.State[at].Record.Value, name)
			}
		}
	}
	if len(silent) > 0 {
		return report.Unknown, fmt.Sprintf("%d peers have it, and %s did not answer", len(views), silent[0].Addr)
	}
	return report.Pass, fmt.Sprintf("%d peers that were asked have it", len(views))
}
