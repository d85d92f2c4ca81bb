package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
)

// deadline reports what the next kOps releases do to the cluster.
func deadline(in Input, r *Report) {
	release, known := in.release()
	if !known {
		text := "not known"
		if in.Version != "" {
			text = fmt.Sprintf("%q; judged by the rules of %s", in.Version, release)
		}
		r.addFinding("MU103", in.Spec.Name, "kOps version %s", text)
	}
	if in.noneIsAhead() {
		r.addFinding("MU104", in.Spec.Name, "dns.type is None, and the control plane's node configuration still gossips; judged as %s", in.Topology())
	}
	if in.gossips() {
		d := cluster.Deadline()
		text := fmt.Sprintf("%s under kOps %s; %s refuses it", in.Topology(), release, d.Refused)
		r.addFinding("MU101", in.Spec.Name, "%s", text)
	}
	if in.Topology() == cluster.Gossip && release < cluster.Release136 && in.Spec.Topology(cluster.Release136) == cluster.Hybrid {
		r.addFinding("MU102", in.Spec.Name, "gossip under kOps %s, hybrid under %s", release, cluster.Release136)
	}
}

// migration reports what blocks the move to None.
func migration(in Input, r *Report) {
	spec := in.Spec
	if in.Topology() == cluster.Public || in.Topology() == cluster.Private {
		return // Muster does not migrate from hosted DNS
	}
	release, _ := in.release()
	for _, f := range spec.Refusals(cluster.None, max(cluster.Release136, release)) {
		switch f.Code {
		case cluster.CodeNoLoadBalancer:
			r.addFinding("MU602", spec.Name, "%s", f.Why)
		case cluster.CodeLoadBalancerClass:
			r.addFinding("MU601", spec.Name, "%s: %s", f.Path, f.Why)
		case cluster.CodeAPIServerRole:
			r.addFinding("MU604", f.Path, "%s", f.Why)
		case cluster.CodeGossipFields: // reported below as MU605, whatever the release
		default:
			r.addFinding("MU607", f.Path, "%s", f.Why)
		}
	}
	for path, set := range map[string]bool{"spec.gossipConfig": spec.Gossip != nil, "spec.dnsControllerGossipConfig": spec.DNSControllerGossip != nil} {
		if set {
			r.addFinding("MU605", path, "%s is set", path)
		}
	}
	if spec.Size(cluster.RoleControlPlane) == 1 {
		r.addFinding("MU603", spec.Name, "minSize of all control-plane groups together is 1")
	}
	if in.Manifest.Terraform {
		r.addFinding("MU606", spec.Name, "spec.target.terraform is set")
	}
	for _, f := range spec.Refusals(cluster.Gossip, cluster.Release136) {
		if f.Code == cluster.CodeWorkersStripped && in.gossips() {
			r.addFinding("MU608", spec.Name, "%s", f.Why)
		}
	}
	observedBalancers(in, r)
}

// observedBalancers reports classic load balancers that the spec no longer has.
func observedBalancers(in Input, r *Report) {
	if in.Cloud == nil || in.Spec.Cloud != cluster.AWS || in.Spec.API.LoadBalancer == nil || in.Spec.API.LoadBalancer.Class != cluster.LoadBalancerNetwork {
		return
	}
	for _, lb := range in.Cloud.LoadBalancers {
		if lb.Class == classic {
			f := r.addFinding("MU601", lb.Name, "the spec asks for class Network, and the classic one is still there")
			f.Severity, f.Blocks = Low, Nothing
		}
	}
}

// permissions reports what the roles of workers hold without need, and lack.
func permissions(in Input, r *Report) {
	if in.Cloud == nil {
		return
	}
	for _, role := range in.Cloud.Roles {
		if !slices.Contains(role.Roles, cluster.RoleNode) || slices.Contains(role.Roles, cluster.RoleControlPlane) || role.Kind == cloud.KindToken {
			continue // tokens are in the user-data: see secrets
		}
		terms, ok := in.workerTerms(role)
		if !ok {
			continue
		}
		held, err := iam.CompareRole(in.Spec.Cloud, role, terms)
		if err != nil {
			r.addFinding("MU204", role.Name, "%v", err)
			continue
		}
		policyFindings(in, r, role, terms, held)
	}
	secrets(in, r)
}

// workerTerms returns the terms under which a role of workers is evaluated. ok is
// false if there are no needs for them, as with hosted DNS.
func (in Input) workerTerms(role cloud.Role) (iam.Terms, bool) {
	release, _ := in.release()
	t := iam.Terms{Role: cluster.RoleNode, Topology: in.Topology(), Release: release, Cluster: in.Spec.Name, Registry: in.Manifest.Registry}
	for _, g := range in.Cloud.Groups {
		for _, b := range bootsOf(g) {
			if b != nil && b.ConfigBase != "" {
				t.State = strings.TrimPrefix(strings.TrimRight(b.ConfigBase, "/"), "s3://")
			}
			// A worker that still gossips needs what gossip needs.
			if g.Template.Permissions == role.Name && bootconfig.Path(b) == cloud.BootGossip {
				t.Topology = cluster.Gossip
			}
		}
	}
	if t.Topology == cluster.Gossip { // there are no needs for gossip in 1.37
		t.Release = min(t.Release, cluster.Release136)
	}
	if held, err := iam.PoliciesOf(role); err == nil {
		t.Partition = iam.PartitionOf(held)
	}
	return t, t.Check() == nil
}

// bootsOf returns the boot configurations of a group's template and living instances.
// An element is nil if it was not read; an instance's is also nil if it is the
// template's.
func bootsOf(g cloud.Group) []*cloud.BootConfig {
	all := []*cloud.BootConfig{g.Template.Boot}
	for _, i := range g.Living() {
		all = append(all, i.Boot)
	}
	return all
}

const describeInstances = "ec2:DescribeInstances"

// policyFindings reports on one role of workers, given its comparison with its needs.
func policyFindings(in Input, r *Report, role cloud.Role, terms iam.Terms, held iam.Comparison) {
	excess, unclear, unrevoked := splitHoldings(role, held)
	if in.Spec.Cloud == cluster.AWS {
		readPermissions(in, r, role)
	}
	if len(excess) > 0 {
		r.addFinding("MU202", role.Name, "%d permissions without need: %s", len(excess), strings.Join(excess, ", ")).GoneAfter = in.goneOnceNarrowed(role, func(rest cloud.Role) bool {
			held, err := iam.CompareRole(in.Spec.Cloud, rest, terms)
			excess, _, _ := splitHoldings(rest, held)
			return err != nil || len(excess) > 0
		})
	}
	if len(unrevoked) > 0 {
		r.addFinding("MU207", role.Name, "%s", strings.Join(unrevoked, ", "))
	}
	if len(unclear) > 0 {
		r.addFinding("MU204", role.Name, "%s", strings.Join(unclear, ", "))
	}
	why, unread := in.gap("permissions", role.Name)
	if unread {
		r.addFinding("MU204", role.Name, "%s", why)
	}
	for _, n := range held.Missing {
		if len(role.Managed) == 0 && !unread {
			f := r.addFinding("MU203", role.Name, "%s is missing: %s %s", strings.Join(n.Actions, ", "), n.Caller, n.Why)
			r.blocksIfBroken(in, f, LinkPermissions)
			if neededLater(terms, n) {
				f.GoneAfter = Stays
			}
		}
	}
}

// splitHoldings sorts what a role holds beyond its needs: excess permissions, those
// that could not be evaluated, and bindings that kOps made and does not revoke.
func splitHoldings(role cloud.Role, held iam.Comparison) (excess, unclear, unrevoked []string) {
	for _, h := range held.Holdings {
		switch {
		case h.Standing == iam.Unclear:
			unclear = append(unclear, h.What)
		case h.Standing == iam.Needed:
		case role.Kind == cloud.KindBinding && h.Standing == iam.Excess:
			unrevoked = append(unrevoked, h.What)
		default:
			excess = append(excess, h.What)
		}
	}
	return excess, unclear, unrevoked
}

// neededLater reports whether workers still have a need after they leave gossip.
func neededLater(t iam.Terms, n iam.Need) bool {
	t.Topology = cluster.None
	return slices.ContainsFunc(iam.Needs(t), func(later iam.Need) bool { return later.Name == n.Name })
}

// readPermissions reports what workers can read beyond what they need.
func readPermissions(in Input, r *Report, role cloud.Role) {
	list := iam.Request{Action: describeInstances, Resource: "*"}
	if allows(role, list) {
		r.addFinding("MU201", role.Name, "may list every instance of the account (%s on *)", describeInstances).GoneAfter = in.goneOnceNarrowed(role, func(rest cloud.Role) bool {
			return allows(rest, list)
		})
	}
	if object := storeRead(in, role); object != "" {
		r.addFinding("MU205", role.Name, "may read %s", object).GoneAfter = in.goneOnceNarrowed(role, func(rest cloud.Role) bool {
			return storeRead(in, rest) != ""
		})
	}
}

// storeRead returns the URL of an object in the state store that a role may read and
// workers do not need; empty if there is none.
func storeRead(in Input, role cloud.Role) string {
	policies, _ := iam.PoliciesOf(role) // CompareRole has parsed them
	base := ""
	for _, g := range in.Cloud.Groups {
		if g.Template.Boot != nil && g.Template.Boot.ConfigBase != "" {
			base = strings.TrimPrefix(strings.TrimRight(g.Template.Boot.ConfigBase, "/"), "s3://")
		}
	}
	if base == "" {
		return ""
	}
	for _, object := range []string{"/pki/private/kubernetes-ca/keyset.yaml", "/cluster-completed.spec"} {
		arn := "arn:" + iam.PartitionOf(policies) + ":s3:::" + base + object
		if iam.Evaluate(policies, iam.Request{Action: "s3:GetObject", Resource: arn}) == iam.Allowed {
			return "s3://" + base + object
		}
	}
	return ""
}

// secrets reports credentials in workers' user-data.
func secrets(in Input, r *Report) {
	for _, g := range in.Cloud.Groups {
		if g.Role == cluster.RoleControlPlane || g.Role == cluster.RoleAPIServer {
			continue
		}
		var names []string
		for _, b := range bootsOf(g) {
			if b != nil {
				names = append(names, b.Credentials...)
			}
		}
		slices.Sort(names)
		if names = slices.Compact(names); len(names) > 0 {
			r.addFinding("MU206", g.Name, "user-data exports %s", strings.Join(names, ", "))
		}
	}
}
