package gossip

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Publication is the addresses to publish for a name, or its withdrawal.
type Publication struct {
	// Name is fully qualified, one of the three names of a cluster.
	Name string
	// Addrs are its new addresses; none withdraws the name.
	Addrs []netip.Addr
}

// Check refuses a name that is not the cluster's, an empty list, and addresses that no server can have or that are
// outside the cluster's networks. Errors are *UnsafeError.
func (p Publication) Check(e Expect) error {
	if err := e.CheckName(p.Name); err != nil {
		return err
	}
	if len(p.Addrs) == 0 {
		return unsafef("publish %s: an empty list would leave nodes without an address; give at least one", p.Name)
	}
	for _, a := range p.Addrs {
		if a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			return unsafef("publish %s: %s is no address that a server can have", p.Name, a)
		}
		if !inside(e.networks(), a) {
			return unsafef("publish %s: %s lies outside the cluster's networks (%s); if it is right, name its network with --network", p.Name, a, prefixes(e.networks()))
		}
	}
	return nil
}

// CheckName refuses names that are not the cluster's.
func (e Expect) CheckName(name string) error {
	if cluster.OwnsName(e.Cluster, name) {
		return nil
	}
	hint := ""
	if full := name + "." + e.Cluster; cluster.OwnsName(e.Cluster, full) {
		hint = "; did you mean " + full + "?"
	}
	return unsafef("%s is not a name of %s (%s)%s", name, e.Cluster, strings.Join(e.names(), ", "), hint)
}

func prefixes(networks []netip.Prefix) string {
	texts := make([]string, len(networks))
	for i, n := range networks {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}

// Change is one record before and after.
type Change struct {
	Overlay Overlay `json:"overlay"`
	Key     string  `json:"key"`
	// From and To are values for people: addresses, "withdrawn", or "nothing" if there is no record.
	From        string `json:"from"`
	To          string `json:"to"`
	FromVersion uint64 `json:"fromVersion,omitempty"`
	// Version is that of the write; if others write meanwhile, it is a little greater.
	Version uint64 `json:"version"`
	// Same says that the record has the value already, and stays as it is.
	Same bool `json:"same,omitempty"`

	value     string
	tombstone bool
}

func (c Change) done(r legacy.Record) bool {
	return r.Value == c.value && r.Tombstone == c.tombstone
}

// Changes returns what the publication would write to an overlay with the given state. An address family without
// addresses in the publication keeps its record, which kept lists. A withdrawal covers the records of both families.
func (p Publication) Changes(o Overlay, state []legacy.Entry, now time.Time) (changes []Change, kept []string, err error) {
	held := make(map[string]legacy.Record)
	for _, e := range state {
		held[e.Key] = e.Record
	}
	for _, typ := range []string{legacy.TypeA, legacy.TypeAAAA} {
		var addrs []netip.Addr
		for _, a := range p.Addrs {
			if (a.Unmap().Is4()) == (typ == legacy.TypeA) {
				addrs = append(addrs, a.Unmap())
			}
		}
		key := legacy.Key{Zone: legacy.Zone, Type: typ, Name: strings.ToLower(strings.TrimSuffix(p.Name, "."))}.String()
		r, known := held[key]
		live := known && !r.Tombstone
		switch {
		case len(addrs) == 0 && len(p.Addrs) > 0:
			if live {
				kept = append(kept, fmt.Sprintf("%s %s", typ, valueText(r)))
			}
			continue
		case len(p.Addrs) == 0 && !live:
			continue // withdrawn already
		case r.Version == math.MaxUint64:
			return nil, nil, fmt.Errorf("write %s in %s: %w; it goes only when all peers have been stopped at the same time", key, o, legacy.ErrOutbid)
		}
		c := Change{Overlay: o, Key: key, From: "nothing", FromVersion: r.Version, Version: uint64(max(now.Unix(), 0)), value: legacy.FormatAddrs(addrs), tombstone: len(addrs) == 0}
		if known {
			c.From, c.Version = valueText(r), max(c.Version, r.Version+1)
		}
		c.To = valueText(legacy.Record{Value: c.value, Tombstone: c.tombstone})
		if known && c.done(r) {
			c.Same, c.Version = true, r.Version
		}
		changes = append(changes, c)
	}
	return changes, kept, nil
}

// readers returns the peers that may read a name, and the dns-controllers. Peers that are gone, and Muster's own, are
// left out.
func readers(peers []Peer) (nodes, controllers []string) {
	for _, p := range peers {
		switch {
		case p.State.Gone() || p.State == Left || strings.HasPrefix(p.NickName, NodePrefix):
		case strings.HasPrefix(p.NickName, "dns-controller."):
			controllers = append(controllers, p.NickName)
		default:
			nodes = append(nodes, p.Label())
		}
	}
	return nodes, controllers
}

// CheckWithdrawal refuses to withdraw a name that nodes depend on, with an *UnsafeError. The overlay has one value a
// name: an earlier one was overwritten and does not return by itself.
func CheckWithdrawal(name string, changes []Change, views []View) error {
	if len(changes) == 0 {
		return nil
	}
	var peers []Peer
	for _, v := range views {
		peers = append(peers, v.Peers...)
	}
	nodes, controllers := readers(peers)
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	controller := "no dns-controller is in the overlay, so nobody would write it again"
	if len(controllers) > 0 {
		controller = controllers[0] + " writes it again only when its pods change or it restarts"
	}
	return unsafef("withdraw %s: %d nodes gossip, and one that boots meanwhile finds nothing under the name; %s. "+
		"Without a gap: stop any --hold, then kubectl -n kube-system rollout restart deployment dns-controller, whose write replaces this one. --force withdraws all the same",
		name, len(nodes), controller)
}
