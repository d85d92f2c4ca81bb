package survey

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestGenerationIsUnknownWithoutAComparison(t *testing.T) {
	tests := map[string]struct {
		machine, newest Machine
		want            cloud.Generation
	}{
		"nothing is known":                    {Machine{}, Machine{}, cloud.GenerationUnknown},
		"only the newest is known":            {Machine{}, Machine{Fingerprint: "b"}, cloud.GenerationUnknown},
		"marked as the newest":                {Machine{Fingerprint: "b"}, Machine{Fingerprint: "b"}, cloud.GenerationNew},
		"marked otherwise":                    {Machine{Fingerprint: "a"}, Machine{Fingerprint: "b"}, cloud.GenerationOld},
		"outdated, whatever the mark":         {Machine{Fingerprint: "b", Outdated: true}, Machine{Fingerprint: "b"}, cloud.GenerationOld},
		"made with the same user-data":        {Machine{UserData: []byte("x")}, Machine{UserData: []byte("x")}, cloud.GenerationNew},
		"made with other user-data":           {Machine{UserData: []byte("x")}, Machine{UserData: []byte("y")}, cloud.GenerationOld},
		"the newest's user-data is not known": {Machine{UserData: []byte("x")}, Machine{}, cloud.GenerationUnknown},
	}
	for name, tt := range tests {
		if got := generation(tt.machine, tt.newest); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestLookFailsOnlyIfEverythingDoes(t *testing.T) {
	fine := Part{What: "a", Look: func(context.Context) error { return nil }}
	denied := Part{What: "b", Look: func(context.Context) error { return cloud.ErrDenied }}
	lost := Part{What: "c", Look: func(context.Context) error { return cloud.ErrTransient }}
	tests := map[string]struct {
		parts []Part
		kind  error
		gaps  []cloud.Gap
	}{
		"all is seen":     {[]Part{fine, fine}, nil, nil},
		"a part is not":   {[]Part{denied, fine, lost}, nil, []cloud.Gap{{What: "b", Why: "denied"}, {What: "c", Why: "no answer"}}},
		"nothing is seen": {[]Part{denied, lost}, cloud.ErrDenied, nil},
		"nothing to see":  {nil, nil, nil},
	}
	for name, tt := range tests {
		s, ctx, cancel := Begin(t.Context(), "a.k8s.local", cluster.Metal)
		if err := s.Look(ctx, tt.parts...); !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v, want %v", name, err, tt.kind)
		}
		if diff := cmp.Diff(tt.gaps, s.Finish(cloud.Observation{}).Gaps); diff != "" {
			t.Errorf("%s: gaps (-want +got):\n%s", name, diff)
		}
		cancel()
	}
}

func TestBeginSetsADeadlineIfThereIsNone(t *testing.T) {
	_, ctx, cancel := Begin(t.Context(), "a.k8s.local", cluster.Metal)
	defer cancel()
	if _, ok := ctx.Deadline(); !ok {
		t.Error("a look without a deadline may last for ever")
	}
}

func TestARuleForTheOwnNetworkAdmitsItsParties(t *testing.T) {
	instance := func(addr string) cloud.Instance { return cloud.Instance{Addr: netip.MustParseAddr(addr)} }
	observed := func(source string) *cloud.Observation {
		s, _, cancel := Begin(t.Context(), "a.k8s.local", cluster.Metal)
		defer cancel()
		return s.Finish(cloud.Observation{
			Groups: []cloud.Group{
				{Name: "cp", Role: cluster.RoleControlPlane, Instances: []cloud.Instance{instance("10.0.0.1")}},
				{Name: "n", Role: cluster.RoleNode, Instances: []cloud.Instance{instance("10.0.1.1"), instance("10.0.2.1")}},
			},
			Network: cloud.Network{Rules: []cloud.Rule{{
				Sources: []netip.Prefix{netip.MustParsePrefix(source)}, To: cloud.PartyControlPlane, Protocol: "tcp", Low: 443, High: 443,
			}}},
		})
	}
	tests := map[string]cloud.Answer{
		"10.0.0.0/8":  cloud.Yes,
		"10.0.1.0/24": cloud.Unknown, // one of two workers
		"10.9.0.0/16": cloud.No,
		"0.0.0.0/0":   cloud.Yes,
	}
	for source, want := range tests {
		if got := observed(source).Network.Allows(cloud.PartyWorkers, cloud.PartyControlPlane, "tcp", 443); got != want {
			t.Errorf("from %s: %s, want %s", source, got, want)
		}
	}
}

func TestAMachineWithoutAGroupIsAGap(t *testing.T) {
	s, _, cancel := Begin(t.Context(), "a.k8s.local", cluster.Metal)
	defer cancel()
	groups := s.Groups([]Machine{{Instance: cloud.Instance{ID: "7"}}}, "why")
	o := s.Finish(cloud.Observation{Groups: groups})
	if len(groups) != 0 || !slices.ContainsFunc(o.Gaps, func(g cloud.Gap) bool { return g.Subject == "7" }) {
		t.Errorf("groups %+v, gaps %v", groups, o.Gaps)
	}
}

func TestALoadBalancerWithoutAddressesIsAGap(t *testing.T) {
	s, _, cancel := Begin(t.Context(), "a.k8s.local", cluster.Metal)
	defer cancel()
	o := s.Finish(cloud.Observation{LoadBalancers: []cloud.LoadBalancer{{Name: "api", Addresses: []netip.Addr{{}}}}})
	want := []cloud.Gap{{What: WhatAddresses, Subject: "api", Why: "the load balancer has none yet"}}
	if diff := cmp.Diff(want, o.Gaps); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
}

func TestPortsAndPrefixes(t *testing.T) {
	ports := map[string]struct {
		low, high int
		ok        bool
	}{
		"443": {443, 443, true}, "3998-4000": {3998, 4000, true}, " 1 - 2 ": {1, 2, true},
		"4000-3998": {4000, 3998, false}, "65536": {65536, 65536, false}, "https": {0, 0, false}, "": {0, 0, false}, "-1": {0, 1, false},
	}
	for text, want := range ports {
		if low, high, ok := Ports(text); ok != want.ok || ok && (low != want.low || high != want.high) {
			t.Errorf("ports %q: %d-%d %v", text, low, high, ok)
		}
	}
	prefixes := map[string]string{"10.1.2.3/8": "10.0.0.0/8", "10.1.2.3": "10.1.2.3/32", "fd00::1": "fd00::1/128", "": "", "world": ""}
	for text, want := range prefixes {
		p, ok := Prefix(text)
		if ok != (want != "") || ok && p.String() != want {
			t.Errorf("prefix %q: %s %v, want %q", text, p, ok, want)
		}
	}
}

func TestRolesAsKopsHasWrittenThemOverTheYears(t *testing.T) {
	for text, want := range map[string]cluster.Role{
		"ControlPlane": cluster.RoleControlPlane, "control-plane": cluster.RoleControlPlane, "Master": cluster.RoleControlPlane,
		"Node": cluster.RoleNode, "APIServer": cluster.RoleAPIServer, "Bastion": cluster.RoleBastion, "": "", "Worker": "",
	} {
		if got := Role(text); got != want {
			t.Errorf("role %q is %q, want %q", text, got, want)
		}
	}
}
