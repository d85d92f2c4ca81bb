package auditcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

var errNoPeers = errors.New("it names no cluster and no peer that was asked")

// nodeFiles is what an audit is given of things that only nodes see.
type nodeFiles struct {
	cluster string // that the overlay's records are of
	overlay map[string][]netip.Addr
	hosts   map[string]map[string][]netip.Addr
}

func (o auditOptions) readNodeFiles(ctx context.Context, s console.Streams) (n nodeFiles, err error) {
	if o.gossip != "" {
		data, err := s.ReadFile(ctx, o.gossip)
		if err != nil {
			return n, console.Usagef("cannot read what the overlay carries: %w", err)
		}
		if n.cluster, n.overlay, err = parseInspection(data); err != nil {
			return n, console.Usagef("%s is not what muster gossip inspect -o json prints: %w", console.InputName(o.gossip), err)
		}
	}
	for _, arg := range o.hosts {
		instance, file, ok := strings.Cut(arg, "=")
		if !ok || instance == "" || file == "" {
			return n, console.Usagef("--hosts %q: want INSTANCE=FILE, such as i-0123=hosts.txt", arg)
		}
		if n.hosts[instance] != nil {
			return n, console.Usagef("--hosts names instance %q twice", instance)
		}
		data, err := s.ReadFile(ctx, file)
		if err != nil {
			return n, console.Usagef("cannot read the hosts file of %s: %w", instance, err)
		}
		if n.hosts == nil {
			n.hosts = make(map[string]map[string][]netip.Addr)
		}
		n.hosts[instance] = blockOf(data)
	}
	return n, nil
}

// parseInspection returns the addresses by name in a [gossip.Report], and its cluster.
func parseInspection(data []byte) (cluster string, overlay map[string][]netip.Addr, err error) {
	var r gossip.Report
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&r); err != nil {
		return "", nil, err
	}
	if r.Cluster == "" || len(r.Asked) == 0 {
		return "", nil, errNoPeers
	}
	overlay = make(map[string][]netip.Addr)
	for _, rec := range r.Records {
		if rec.Tombstone || rec.Type != legacy.TypeA && rec.Type != legacy.TypeAAAA {
			continue // protokube writes addresses only
		}
		addrs := overlay[rec.Name]
		for _, text := range rec.Addresses {
			if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
		overlay[rec.Name] = addrs
	}
	return r.Cluster, overlay, nil
}

// blockOf returns the addresses by name in the block of a hosts file.
func blockOf(file []byte) map[string][]netip.Addr {
	block := make(map[string][]netip.Addr)
	for _, e := range hosts.Parse(file).Entries {
		for _, name := range e.Names {
			block[name] = append(block[name], e.Addr)
		}
	}
	return block
}

// addTo adds what was read to the input of the cluster that it must be about.
func (n nodeFiles) addTo(in *audit.Input) error {
	if n.cluster != "" && n.cluster != in.Spec.Name {
		return console.Usagef("--gossip is about cluster %s, and this is %s", n.cluster, in.Spec.Name)
	}
	if in.Cloud != nil {
		for instance := range n.hosts {
			if !slices.ContainsFunc(in.Cloud.Groups, func(g cloud.Group) bool {
				return slices.ContainsFunc(g.Instances, func(i cloud.Instance) bool { return i.ID == instance })
			}) {
				return console.Usagef("--hosts: no instance %q in the cluster; see the cloud's console for its ID", instance)
			}
		}
	}
	in.Overlay, in.Hosts = n.overlay, n.hosts
	return nil
}
