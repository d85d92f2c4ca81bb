package audit

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestAKopsThatIsNotKnownIsJudgedByTheNearestThatIs(t *testing.T) {
	tests := []struct{ version, observed string }{
		{"1.30.4", `kOps version "1.30.4"; judged by the rules of 1.34`},
		{"v1.39.0-beta.1", `kOps version "v1.39.0-beta.1"; judged by the rules of 1.37`},
		{"1.99999999999999999999", `kOps version "1.99999999999999999999"; judged by the rules of 1.36`},
		{"main", `kOps version "main"; judged by the rules of 1.36`},
		{"", "kOps version not known"},
	}
	for _, tt := range tests {
		in := healthy()
		gossiping(&in)
		in.Version = tt.version
		r := Run(in, nil)
		i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.ID == "MU103" })
		if i < 0 || r.Findings[i].Observed != tt.observed {
			t.Errorf("kOps %q: %+v; want MU103 with %q", tt.version, r.Findings, tt.observed)
		}
		// Only to kOps 1.36 is it hybrid, for its load balancer.
		if by136 := strings.HasSuffix(r.Findings[i].Observed, "1.36") || tt.version == ""; by136 != (r.Topology == cluster.Hybrid) {
			t.Errorf("kOps %q: topology %s", tt.version, r.Topology)
		}
		if !slices.Contains(ids(r), "MU201") {
			t.Errorf("kOps %q: permissions were not judged: %v", tt.version, ids(r))
		}
	}
}

func TestASecretThatMemberlistIgnoresIsNoPassword(t *testing.T) {
	in := healthy()
	hybrid(&in)
	in.Spec.Gossip = secretSpec(t)
	in.Spec.Gossip.Protocol, in.Spec.Gossip.Listen = cluster.ProtocolMemberlist, netip.MustParseAddrPort("0.0.0.0:4999")
	i := slices.IndexFunc(Run(in, nil).Findings, func(f Finding) bool { return f.ID == "MU310" })
	if i < 0 {
		t.Fatal("no MU310")
	}
	if got := Run(in, nil).Findings[i].Observed; !strings.Contains(got, "memberlist, which ignores the secret") || !strings.Contains(got, "port 4999") {
		t.Errorf("observed %q", got)
	}
}

func TestThePublicNameIsNoForeignName(t *testing.T) {
	in := healthy()
	hybrid(&in)
	in.Probes.Overlay["api.example.com"] = []netip.Addr{cpAddr}
	if !slices.Contains(ids(Run(in, nil)), "MU320") {
		t.Error("a name that the spec does not have: no MU320")
	}
	in.Spec.API.PublicName = "API.example.com."
	if slices.Contains(ids(Run(in, nil)), "MU320") {
		t.Error("spec.masterPublicName is called foreign")
	}
}

func TestCiliumSeesTheHostsFileWhereKopsMountsIt(t *testing.T) {
	for version, want := range map[string]bool{"1.34.5": true, "1.35.1": true, "1.35.2": false, "v1.35.3": false, "1.36.2": true, "": true} {
		in := healthy()
		hybrid(&in)
		in.Version, in.Manifest.Cilium = version, true
		if got := slices.Contains(ids(Run(in, nil)), "MU324"); got != want {
			t.Errorf("kOps %q: MU324 %v; want %v", version, got, want)
		}
	}
}

// An address that no observed instance has may be that of one that was not read.
func TestAddressesAreDeadOnlyIfAllInstancesWereRead(t *testing.T) {
	in := healthy()
	in.Probes.Hosts["i-2"] = map[string][]netip.Addr{"api.internal." + name: {nowhere}}
	nodes(&in).Template.Boot.APIServerIPs = []string{lbAddr.String(), nowhere.String()}
	dead := func() (got []string) {
		for _, id := range ids(Run(in, nil)) {
			if id == "MU321" || id == "MU322" {
				got = append(got, id)
			}
		}
		return got
	}
	if diff := cmp.Diff([]string{"MU321", "MU322"}, dead()); diff != "" {
		t.Errorf("all instances read (-want +got):\n%s", diff)
	}
	in.Cloud.Gaps = []cloud.Gap{{What: "instances", Why: "denied"}}
	if diff := cmp.Diff([]string(nil), dead()); diff != "" {
		t.Errorf("instances not read (-want +got):\n%s", diff)
	}
}

func TestLoadBalancersThatWereNotReadAreNotNone(t *testing.T) {
	in := Input{Cloud: &cloud.Observation{Gaps: []cloud.Gap{{What: "load balancers", Why: "no answer within the deadline"}}}}
	if addrs, known := in.balancerAddrs(); known {
		t.Errorf("addresses %v count as all that there are", addrs)
	}
	in.Cloud.Gaps = nil
	in.Cloud.LoadBalancers = []cloud.LoadBalancer{{Class: "network", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}
	if _, known := in.balancerAddrs(); !known {
		t.Error("what was read counts as unknown")
	}
}
