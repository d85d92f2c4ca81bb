package audit

import (
	"maps"
	"slices"
	"testing"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// reached turns a cluster into what it is after kOps has moved it to a topology: nodes
// are replaced and kOps's own policies rewritten, everything else is as before.
func reached(to cluster.Topology) change {
	return func(in *Input) {
		if in.Version != "" {
			in.Version = "1.36.2"
		}
		nodes(in).Template.Boot = byAddress()
		nodes(in).Instances = slices.Clone(nodes(in).Instances)
		for i := range nodes(in).Instances {
			nodes(in).Instances[i].Generation, nodes(in).Instances[i].Version, nodes(in).Instances[i].Boot = cloud.GenerationNew, "7", nil
		}
		role := &in.Cloud.Roles[1]
		if _, ok := role.Policies[role.Name]; ok && in.Spec.Cloud == cluster.AWS {
			role.Policies = maps.Clone(role.Policies)
			role.Policies[role.Name] = workerPolicy
		}
		in.Probes.Hosts = nil
		if to == cluster.None {
			in.Spec.DNSType, in.Probes.Overlay = cluster.DNSNone, nil
			in.Store.Addons = []Addon{{Name: addonDNS, Empty: true}}
			in.Store.NodeConfigs[masters] = NodeConfig{Hash: "y"}
		}
	}
}

// TestFindingsAreGoneAfterTheirTopology checks GoneAfter against what the cluster has
// after each move: a finding is gone after that topology and not before, and one that
// stays is still there. In None all findings stay.
func TestFindingsAreGoneAfterTheirTopology(t *testing.T) {
	// reached replaces boot configurations, and so resolves what is wrong with them.
	boots := []string{"MU322", "MU501", "MU502"}
	seen := map[string]bool{}
	for id, c := range findingCases(t) {
		for start, from := range map[string]change{"gossip": gossiping, "as it is": func(*Input) {}} {
			t.Run(id+" from "+start, func(t *testing.T) {
				after := func(more change) []string {
					in := healthy()
					both(from, c.with, more)(&in)
					return ids(Run(in, nil))
				}
				in := healthy()
				both(from, c.with)(&in)
				r := Run(in, nil)
				i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.ID == id })
				if i < 0 {
					return
				}
				seen[id] = true
				none := slices.Contains(after(reached(cluster.None)), id)
				hybrid := r.Topology != cluster.None && slices.Contains(after(reached(cluster.Hybrid)), id)
				switch f := r.Findings[i]; {
				case in.progress() == cluster.None:
					if f.GoneAfter != Stays {
						t.Errorf("said to be gone after %s, in a cluster that has nowhere to cross", f.GoneAfter)
					}
				case f.GoneAfter == cluster.Hybrid && (hybrid || none):
					t.Errorf("said to be gone after hybrid; there in hybrid: %v, in none: %v", hybrid, none)
				case f.GoneAfter == cluster.None && none:
					t.Error("said to be gone after none, and there in it")
				case f.GoneAfter == cluster.None && r.Topology != cluster.None && in.Spec.Topology(cluster.Release136) == cluster.Hybrid && !hybrid:
					t.Error("said to be gone after none, and gone in hybrid")
				case f.GoneAfter == Stays && !none && !slices.Contains(boots, id):
					t.Error("said to stay, and gone in none")
				case f.GoneAfter == "" || f.Blocks == "":
					t.Errorf("blocks %q, gone after %q", f.Blocks, f.GoneAfter)
				}
			})
		}
	}
	for _, rule := range Rules() {
		if !seen[rule.ID] {
			t.Errorf("%s was never looked at", rule.ID)
		}
	}
}

// TestWhatAFindingBlocksDependsOnFacts has the same finding in different clusters.
func TestWhatAFindingBlocksDependsOnFacts(t *testing.T) {
	const byOther = `{"Statement":{"Effect":"Allow","Action":"ec2:DescribeInstances","Resource":"*"}}`
	extra := func(name string) change {
		return func(in *Input) {
			policies := maps.Clone(in.Cloud.Roles[1].Policies)
			policies[name] = byOther
			in.Cloud.Roles[1].Policies = policies
		}
	}
	unhealthy := func(in *Input) {
		in.Cloud.LoadBalancers[0].Listeners[1].Targets[0].Health = cloud.TargetUnhealthy
	}
	group := func(role cluster.Role) change {
		return func(in *Input) { in.Spec.Groups = append(in.Spec.Groups, cluster.Group{Name: "api", Role: role}) }
	}
	tests := []struct {
		name   string
		change change
		id     string
		blocks Stage
		gone   cluster.Topology
	}{
		{"kOps's own policy goes with gossip", gossiping, "MU201", Nothing, cluster.Hybrid},
		{"so does Muster's bridge", both(gossiping, extra("muster-bridge."+name)), "MU201", Nothing, cluster.Hybrid},
		{"what somebody added by hand stays", both(gossiping, extra("additional."+workersRole)), "MU201", Nothing, Stays},
		{"a role that kOps did not make keeps all", both(gossiping, func(in *Input) { in.Cloud.Roles[1].Name = "shared"; nodes(in).Template.Permissions = "shared" }), "MU201", Nothing, Stays},
		{"nobody takes it away in hybrid", both(hybrid, extra(workersRole)), "MU201", Nothing, Stays},
		{"without a load balancer nodes leave gossip for none", both(gossiping, func(in *Input) { in.Spec.API.LoadBalancer = nil }), "MU205", Nothing, cluster.None},
		{"workers that still gossip in none are on their way", both(old, func(in *Input) { in.Cloud.Roles[1].Policies = map[string]string{workersRole: gossipPolicy} }), "MU201", Nothing, cluster.None},
		{"a new worker that lacks a permission does not join", both(gossiping, func(in *Input) { in.Cloud.Roles[1].Policies = map[string]string{workersRole: workerPolicy} }), "MU203", NewNodes, cluster.Hybrid},
		{"an old one that lacks it keeps no new one out", both(hybrid, old), "MU203", Nothing, cluster.Hybrid},
		{"what every worker needs does not come back by itself", both(gossiping, func(in *Input) {
			in.Cloud.Roles[1].Policies = map[string]string{workersRole: replaced(t, gossipPolicy, `"ec2:DescribeInstanceTypes",`, "")}
		}), "MU203", NewNodes, Stays},
		{"a service that new nodes boot by", unhealthy, "MU505", NewNodes, Stays},
		{"a service that they will boot by", both(gossiping, unhealthy), "MU505", ToHybrid, Stays},
		{"a classic balancer, which no node goes through", both(gossiping, unhealthy, func(in *Input) { in.Cloud.LoadBalancers[0].Class = classic }), "MU505", Nothing, Stays},
		{"a port of somebody else's", both(gossiping, unhealthy, func(in *Input) { in.Cloud.LoadBalancers[0].Listeners[1].Port = 22 }), "MU505", Nothing, Stays},
		{"a classic balancer that is left over", both(hybrid, func(in *Input) {
			in.Cloud.LoadBalancers = append(in.Cloud.LoadBalancers, cloud.LoadBalancer{Name: "old", Class: classic})
		}), "MU601", Nothing, Stays},
		{"API servers of their own before None", both(hybrid, group(cluster.RoleAPIServer)), "MU604", ToNone, Stays},
		{"and in it", group(cluster.RoleAPIServer), "MU604", ToKops137, Stays},
		{"a script that calls protokube before workers leave it", both(gossiping, func(in *Input) { in.Manifest.ProtokubeRefs = []string{"a hook"} }), "MU326", ToHybrid, Stays},
		{"before the control plane does", both(hybrid, func(in *Input) { in.Manifest.ProtokubeRefs = []string{"a hook"} }), "MU326", ToNone, Stays},
		{"and after", func(in *Input) { in.Manifest.ProtokubeRefs = []string{"a hook"} }, "MU326", Nothing, Stays},
		{"an old control-plane node goes last", both(gossiping, func(in *Input) {
			cps(in).Instances[0].Generation, cps(in).Instances[0].Version = cloud.GenerationOld, "2"
		}), "MU504", Nothing, cluster.None},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := healthy()
			tt.change(&in)
			r := Run(in, nil)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.ID == tt.id })
			if i < 0 {
				t.Fatalf("no %s among %v", tt.id, outlooks(r))
			}
			if f := r.Findings[i]; f.Blocks != tt.blocks || f.GoneAfter != tt.gone {
				t.Errorf("%s blocks %s, gone after %s; want %s, %s", tt.id, f.Blocks, f.GoneAfter, tt.blocks, tt.gone)
			}
		})
	}
}

// TestWhatBlocksAnUpgradeMakesItNotReady checks that ReadyFor(1.37) agrees with what
// findings block.
func TestWhatBlocksAnUpgradeMakesItNotReady(t *testing.T) {
	for id, c := range findingCases(t) {
		in := healthy()
		c.with(&in)
		r := Run(in, nil)
		ready := ReadyFor(in, r, cluster.Release137).Ready
		for _, f := range r.Findings {
			if f.ID == id && f.Blocks != Nothing && ready {
				t.Errorf("%s blocks %s, and kOps 1.37 can be used", id, f.Blocks)
			}
		}
	}
}
