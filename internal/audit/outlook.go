package audit

import (
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
)

// Stage is a step on a cluster's way that a finding can block.
type Stage string

// The stages, in the order in which a cluster reaches them.
const (
	Nothing   Stage = "nothing"
	NewNodes  Stage = "new-nodes" // every node that is replaced or added
	ToHybrid  Stage = "to-hybrid" // kOps 1.36 and the move to hybrid
	ToNone    Stage = "to-none"   // the switch to None
	ToKops137 Stage = "kops-1.37" // the upgrade to kOps 1.37
)

// String returns the stage for people, such as "new nodes".
func (s Stage) String() string {
	return strings.NewReplacer("-1", " 1", "-", " ", "kops", "kOps").Replace(string(s))
}

// Stays is the GoneAfter of findings that no migration resolves.
const Stays cluster.Topology = "stays"

// progress returns the topology that the cluster's nodes have reached: that of the
// spec, or gossip while any worker gossips or would.
func (in Input) progress() cluster.Topology {
	t := in.Topology()
	switch {
	case t == cluster.Public, t == cluster.Private:
		return cluster.None // nothing is left to migrate
	case in.Cloud != nil && in.workersGossip():
		return cluster.Gossip
	}
	return t
}

// setOutlook sets Blocks and GoneAfter of a finding to those of its rule, unless the
// check has set them.
func (in Input) setOutlook(f *Finding) {
	rule, _ := RuleOf(f.ID)
	if f.Blocks == "" {
		f.Blocks = in.nextStage(rule.Blocks)
	}
	if f.GoneAfter == "" {
		f.GoneAfter = in.goneAfter(rule.GoneAfter)
	}
}

// nextStage returns the first of the stages that is still ahead, or [Nothing].
func (in Input) nextStage(stages []Stage) Stage {
	at := in.progress()
	for _, s := range stages {
		if s == ToHybrid && at != cluster.Gossip || s == ToNone && at == cluster.None {
			continue
		}
		return s
	}
	return Nothing
}

// goneAfter returns the topology that will resolve a finding which t resolves in
// general. If the cluster has reached t and still has the finding, it stays.
func (in Input) goneAfter(t cluster.Topology) cluster.Topology {
	order := []cluster.Topology{cluster.Gossip, cluster.Hybrid, cluster.None}
	if slices.Index(order, in.progress()) >= slices.Index(order, t) {
		return Stays
	}
	if in.Spec.UsesNoneDNS() || in.Spec.Topology(cluster.Release136) == cluster.Gossip {
		return cluster.None // it will not pass through hybrid
	}
	return t
}

// blocksIfBroken sets Blocks of a finding: new nodes only if one of the given links
// is what keeps them from joining, otherwise the rule's other stages.
func (r *Report) blocksIfBroken(in Input, f *Finding, links ...string) {
	rule, _ := RuleOf(f.ID)
	broken := slices.ContainsFunc(r.Groups, func(g Group) bool { return slices.Contains(links, g.BrokenLink) })
	f.Blocks = in.nextStage(slices.DeleteFunc(slices.Clone(rule.Blocks), func(s Stage) bool { return s == NewNodes && !broken }))
}

// goneOnceReplaced returns the topology with which the nodes of a role are replaced.
func (in Input) goneOnceReplaced(role cluster.Role) cluster.Topology {
	if role == cluster.RoleNode {
		return in.goneAfter(cluster.Hybrid)
	}
	return in.goneAfter(cluster.None)
}

// roleOf returns the role of a living instance; empty if there is no such instance.
func (in Input) roleOf(id string) cluster.Role {
	for _, g := range in.Cloud.Groups {
		if slices.ContainsFunc(g.Living(), func(i cloud.Instance) bool { return i.ID == id }) {
			return g.Role
		}
	}
	return ""
}

// manualPolicies returns the role without the policies that a migration rewrites or
// removes: kOps's own, and Muster's bridge.
func (in Input) manualPolicies(role cloud.Role) cloud.Role {
	kept := map[string]string{}
	for name, text := range role.Policies {
		own := name == role.Name && strings.HasPrefix(name, "nodes.")
		if !own && name != "muster-bridge."+in.Spec.Name {
			kept[name] = text
		}
	}
	role.Policies = kept
	return role
}

// goneOnceNarrowed returns the topology with which kOps removes the policies that
// cause a finding. holds reports whether a role has the finding.
func (in Input) goneOnceNarrowed(role cloud.Role, holds func(cloud.Role) bool) cluster.Topology {
	if in.Spec.Cloud != cluster.AWS || holds(in.manualPolicies(role)) {
		return Stays // kOps revokes nothing on other clouds
	}
	return in.goneAfter(cluster.Hybrid)
}

// allows reports whether a role's policies allow a request.
func allows(role cloud.Role, request iam.Request) bool {
	policies, err := iam.PoliciesOf(role)
	return err == nil && iam.Evaluate(policies, request) == iam.Allowed
}
