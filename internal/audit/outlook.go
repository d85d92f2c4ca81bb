package audit

import (
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
)

// Stage is something ahead of a cluster that a finding can stand in the way of.
type Stage string

// The stages, in the order in which a cluster meets them.
const (
	Nothing   Stage = "nothing"
	NewNodes  Stage = "new-nodes" // every node that is replaced or added
	ToHybrid  Stage = "to-hybrid" // kOps 1.36 and the move to hybrid
	ToNone    Stage = "to-none"   // the switch to None
	ToKops137 Stage = "kops-1.37" // the upgrade to kOps 1.37
)

// String returns the stage as a person reads it.
func (s Stage) String() string {
	return strings.NewReplacer("-1", " 1", "-", " ", "kops", "kOps").Replace(string(s))
}

// Stays is in the place of the topology after which a finding is gone, of those that
// no crossing takes away.
const Stays cluster.Topology = "stays"

// crossed returns how far the cluster's nodes have come: what its topology is by its
// spec, unless workers were born, or would be, that still gossip.
func (in Input) crossed() cluster.Topology {
	t := in.Topology()
	switch {
	case t == cluster.Public, t == cluster.Private:
		return cluster.None // nobody crosses from hosted DNS
	case in.Cloud != nil && in.workersGossip():
		return cluster.Gossip
	}
	return t
}

// place fills in what a finding blocks, and after what it is gone, where the check
// that found it left that to the rule.
func (in Input) place(f *Finding) {
	rule, _ := RuleOf(f.ID)
	if f.Blocks == "" {
		f.Blocks = in.ahead(rule.Blocks)
	}
	if f.GoneAfter == "" {
		f.GoneAfter = in.goneAfter(rule.GoneAfter)
	}
}

// ahead returns the first stage that the cluster has not behind it.
func (in Input) ahead(stages []Stage) Stage {
	at := in.crossed()
	for _, s := range stages {
		if s == ToHybrid && at != cluster.Gossip || s == ToNone && at == cluster.None {
			continue
		}
		return s
	}
	return Nothing
}

// goneAfter returns the topology with which something goes that a topology takes
// away: it stays if the cluster has that behind it and it is still there.
func (in Input) goneAfter(t cluster.Topology) cluster.Topology {
	order := []cluster.Topology{cluster.Gossip, cluster.Hybrid, cluster.None}
	if slices.Index(order, in.crossed()) >= slices.Index(order, t) {
		return Stays
	}
	if in.Topology() == cluster.None || in.Spec.Topology(cluster.Release136) == cluster.Gossip {
		return cluster.None // its workers have yet to follow their spec, or cannot be hybrid by it
	}
	return t
}

// causes says of a finding whether it is why a new node would not join: whether a
// chain broke at one of its links. Otherwise it blocks what else its rule names.
func (r *Report) causes(in Input, f *Finding, links ...string) {
	rule, _ := RuleOf(f.ID)
	broken := slices.ContainsFunc(r.Groups, func(g Group) bool { return slices.Contains(links, g.BrokenLink) })
	f.Blocks = in.ahead(slices.DeleteFunc(slices.Clone(rule.Blocks), func(s Stage) bool { return s == NewNodes && !broken }))
}

// replaced returns after which topology the live nodes of a group have been replaced.
func (in Input) replaced(role cluster.Role) cluster.Topology {
	if role == cluster.RoleNode {
		return in.goneAfter(cluster.Hybrid)
	}
	return in.goneAfter(cluster.None)
}

// roleOf returns the role of a live instance; empty if it is nobody's.
func (in Input) roleOf(id string) cluster.Role {
	for _, g := range in.Cloud.Groups {
		if slices.ContainsFunc(g.Living(), func(i cloud.Instance) bool { return i.ID == id }) {
			return g.Role
		}
	}
	return ""
}

// byHand returns the role without the policies that a crossing rewrites or takes
// away: kOps's own, and Muster's bridge.
func (in Input) byHand(role cloud.Role) cloud.Role {
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

// narrowed returns after which topology a role no longer holds what is found in it,
// given whether it would still be found in what was put there by hand.
func (in Input) narrowed(role cloud.Role, found func(cloud.Role) bool) cluster.Topology {
	if in.Spec.Cloud != cluster.AWS || found(in.byHand(role)) {
		return Stays // elsewhere kOps takes nothing back
	}
	return in.goneAfter(cluster.Hybrid)
}

// allows reports whether a role's policies allow a request.
func allows(role cloud.Role, request iam.Request) bool {
	policies, err := iam.PoliciesOf(role)
	return err == nil && iam.Evaluate(policies, request) == iam.Allowed
}
