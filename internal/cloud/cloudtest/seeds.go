package cloudtest

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

func (v Vendor) seeds(t *testing.T) { v.wantSeeds(t, Small()) }

func (v Vendor) wantSeeds(t *testing.T, w World) *server {
	t.Helper()
	p, s := v.provider(t, w)
	got, err := p.Seeds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(seedsOf(w), got, Addrs); diff != "" {
		t.Errorf("seeds (-want +got):\n%s", diff)
	}
	return s
}

func (v Vendor) everyPage(t *testing.T) {
	if n := v.wantSeeds(t, Large(130, 130)).count(v.Seeds); n < 2 {
		t.Errorf("the fake was asked for %s %d times; it has no pages and proves nothing", v.Seeds, n)
	}
}

func (v Vendor) everyZone(t *testing.T) {
	w := Small()
	for i := range w.Machines {
		w.Machines[i].Zone = 2 - i%2 // the first one is empty
	}
	v.wantSeeds(t, w)
}

func (v Vendor) everySeed(t *testing.T) {
	w := Large(101, 0)
	if len(seedsOf(w)) != 101 {
		t.Fatalf("the world has %d seeds", len(seedsOf(w)))
	}
	v.wantSeeds(t, w)
}

func (v Vendor) otherCluster(t *testing.T) {
	w := World{}
	w.add(Machine{Cluster: Name + "2", Group: "control-plane-a", Role: cluster.RoleControlPlane})
	w.add(Machine{Cluster: "big-" + Name, Group: "control-plane-a", Role: cluster.RoleControlPlane})
	p, _ := v.provider(t, w)
	got, err := p.Seeds(t.Context())
	if !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("seeds of other clusters: %v, %v", got, err)
	}
}

func (v Vendor) noSeed(t *testing.T) {
	w := Small()
	w.Machines = slices.DeleteFunc(w.Machines, func(m Machine) bool {
		return m.Cluster == Name && m.Role == cluster.RoleControlPlane && m.State != Stopped
	})
	p, _ := v.provider(t, w)
	got, err := p.Seeds(t.Context())
	if !errors.Is(err, cloud.ErrNotFound) || got != nil {
		t.Errorf("seeds without a control plane: %v, %v; want none and %v", got, err, cloud.ErrNotFound)
	}
	if err != nil && !strings.Contains(err.Error(), Name) {
		t.Errorf("the error %q does not name the cluster", err)
	}
}

func (v Vendor) eventually(t *testing.T) {
	w := Small()
	w.add(Machine{Group: "control-plane-b", Role: cluster.RoleControlPlane, Zone: 1, State: Listed})
	p, _ := v.provider(t, w)
	got, err := p.Seeds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(seedsOf(w), got, Addrs); diff != "" {
		t.Errorf("seeds (-want +got):\n%s", diff)
	}
	o := v.observe(t, w)
	newest := w.Machines[len(w.Machines)-1]
	for _, g := range o.Groups {
		for _, in := range g.Instances {
			if in.Name == newest.Name {
				if in.Addr.IsValid() {
					t.Errorf("the machine has the address %s, which nobody gave it", in.Addr)
				}
				return
			}
		}
	}
	t.Errorf("the machine %s is in no group", newest.Name)
}

// seedsOf returns the seeds that a world must have.
func seedsOf(w World) (seeds []netip.Addr) {
	for _, m := range w.Own() {
		if m.Role == cluster.RoleControlPlane && m.State != Stopped && m.Addr.IsValid() {
			seeds = append(seeds, m.Addr)
		}
	}
	slices.SortFunc(seeds, netip.Addr.Compare)
	return seeds
}
