package cloudtest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// groupView is what is compared of a group.
type groupView struct {
	Role      cluster.Role
	Instances map[string]instanceView // by name
}

type instanceView struct {
	Addr       netip.Addr
	Generation cloud.Generation
}

func (v Vendor) groups(t *testing.T) {
	w := Small()
	want := map[string]groupView{}
	for _, m := range w.Own() {
		g, ok := want[m.Group]
		if !ok {
			g = groupView{Role: m.Role, Instances: map[string]instanceView{}}
			want[m.Group] = g
		}
		in := instanceView{Addr: m.Addr, Generation: cloud.GenerationUnknown}
		if v.Generations {
			in.Generation = cloud.GenerationNew
			if m.Old {
				in.Generation = cloud.GenerationOld
			}
		}
		g.Instances[m.Name] = in
	}
	o := v.observe(t, w)
	got := map[string]groupView{}
	for _, g := range o.Groups {
		s := groupView{Role: g.Role, Instances: map[string]instanceView{}}
		for _, in := range g.Instances {
			s.Instances[in.Name] = instanceView{Addr: in.Addr, Generation: in.Generation}
			if in.ID == "" || in.State == "" || in.Zone == "" {
				t.Errorf("%s has no ID, state or zone: %+v", in.Name, in)
			}
		}
		got[g.Name] = s
	}
	if diff := cmp.Diff(want, got, Addrs); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if o.Cluster != Name || o.Cloud != v.Cloud {
		t.Errorf("observed %s on %s, want %s on %s", o.Cluster, o.Cloud, Name, v.Cloud)
	}
	if !slices.IsSortedFunc(o.Groups, func(a, b cloud.Group) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("groups are not sorted by name")
	}
}

func (v Vendor) boot(t *testing.T) {
	o := v.observe(t, Small())
	for _, g := range o.Groups {
		gap := hasGap(o, "boot configuration", g.Name)
		if !v.UserData {
			if g.Template.Boot != nil || !gap {
				t.Errorf("group %s: boot %+v, a gap: %v; this vendor gives no user-data", g.Name, g.Template.Boot, gap)
			}
			continue
		}
		b := g.Template.Boot
		if b == nil || gap {
			t.Errorf("group %s has no boot configuration; gaps: %v", g.Name, o.Gaps)
			continue
		}
		if b.Cluster != Name || b.Group != g.Name || b.Role != g.Role || g.Template.Hash == "" {
			t.Errorf("group %s boots with %+v, hash %q", g.Name, b, g.Template.Hash)
		}
		if g.Role == cluster.RoleNode && !slices.Equal(b.Servers, []string{"https://" + PrivateVIP.String() + ":3988/"}) {
			t.Errorf("group %s asks %v", g.Name, b.Servers)
		}
	}
	if v.UserData && v.Tokens {
		v.tokens(t, o)
	}
}

func (v Vendor) bootOfOld(t *testing.T) {
	if !v.UserData || !v.Generations {
		t.Skipf("%s tells no old instance's user-data", v.Cloud)
	}
	for _, g := range v.observe(t, Small()).Groups {
		for _, in := range g.Instances {
			old := in.Generation == cloud.GenerationOld
			if gossips := in.Boot != nil && in.Boot.ConfigBase != ""; gossips != old {
				t.Errorf("%s is %s and was born with %+v", in.Name, in.Generation, in.Boot)
			}
		}
	}
}

// tokens checks that the secret of an old worker is found.
func (v Vendor) tokens(t *testing.T, o *cloud.Observation) {
	t.Helper()
	held := map[string]bool{}
	for _, r := range o.Roles {
		if r.Kind != cloud.KindToken || len(r.Roles) != 1 {
			t.Errorf("role %+v is no token of one role", r)
		}
		held[r.Name] = strings.Contains(strings.Join(r.Bindings, " "), Exported)
	}
	for _, g := range o.Groups {
		if want := g.Name != "nodes-b"; held[g.Template.Permissions] != want {
			t.Errorf("group %s carries %s: %v, want %v; roles %+v", g.Name, Exported, !want, want, o.Roles)
		}
	}
}

func (v Vendor) balancer(t *testing.T) {
	w := Small()
	o := v.observe(t, w)
	if len(o.LoadBalancers) != 1 {
		t.Fatalf("%d load balancers, want 1; gaps: %v", len(o.LoadBalancers), o.Gaps)
	}
	lb := o.LoadBalancers[0]
	if diff := cmp.Diff(v.VIPs, lb.Addresses, Addrs); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	ports := v.Ports
	if ports == nil {
		ports = []int{443, 3988}
	}
	for _, port := range ports {
		l, ok := lb.Listener(port)
		if !ok {
			t.Errorf("no listener at %d: %+v", port, lb.Listeners)
			continue
		}
		if len(l.Targets) != len(w.ControlPlane()) {
			t.Errorf("port %d has %d targets, want %d: %+v", port, len(l.Targets), len(w.ControlPlane()), l.Targets)
		}
		healthy := len(w.ControlPlane())
		if port == 3988 {
			healthy--
		}
		if !v.Health {
			healthy = 0
		}
		if l.Healthy() != healthy {
			t.Errorf("port %d has %d healthy targets, want %d: %+v", port, l.Healthy(), healthy, l.Targets)
		}
		if l.Protocol == "" || v.Health && l.Check == "" {
			t.Errorf("port %d: protocol %q, check %q", port, l.Protocol, l.Check)
		}
	}
	if len(lb.Listeners) != len(ports) {
		t.Errorf("listeners %+v, want ports %v", lb.Listeners, ports)
	}
	if !v.Health && !hasGap(o, "target health", lb.Name) {
		t.Errorf("health is unknown, and no gap says so: %v", o.Gaps)
	}
}

func (v Vendor) withoutBalancer(t *testing.T) {
	w := Small()
	w.Balanced = false
	o := v.observe(t, w)
	if len(o.LoadBalancers) != 0 {
		t.Errorf("load balancers out of nowhere: %+v", o.LoadBalancers)
	}
	if hasGap(o, "load balancers", "") {
		t.Errorf("none is taken for unknown: %v", o.Gaps)
	}
}
