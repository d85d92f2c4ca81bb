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

// deadline: what time does to the cluster.
func deadline(in Input, r *Report) {
	release, known := in.release()
	if !known {
		text := "not known"
		if in.Version != "" {
			text = fmt.Sprintf("%q; judged by the rules of %s", in.Version, release)
		}
		r.find("MU103", in.Spec.Name, "kOps version %s", text)
	}
	if in.gossips() {
		d := cluster.Deadline()
		text := fmt.Sprintf("%s under kOps %s; %s refuses it", in.Topology(), release, d.Refused)
		r.find("MU101", in.Spec.Name, "%s", text)
	}
	if in.Topology() == cluster.Gossip && release < cluster.Release136 && in.Spec.Topology(cluster.Release136) == cluster.Hybrid {
		r.find("MU102", in.Spec.Name, "gossip under kOps %s, hybrid under %s", release, cluster.Release136)
	}
}

// migration: what stands between the cluster and None.
func migration(in Input, r *Report) {
	spec := in.Spec
	if in.Topology() == cluster.Public || in.Topology() == cluster.Private {
		return // not ours to move
	}
	release, _ := in.release()
	for _, f := range spec.Refusals(cluster.None, max(cluster.Release136, release)) {
		switch f.Code {
		case cluster.CodeNoLoadBalancer:
			r.find("MU602", spec.Name, "%s", f.Why)
		case cluster.CodeLoadBalancerClass:
			r.find("MU601", spec.Name, "%s: %s", f.Path, f.Why)
		case cluster.CodeAPIServerRole:
			r.find("MU604", f.Path, "%s", f.Why)
		case cluster.CodeGossipFields: // MU605 says so for every release
		default:
			r.find("MU607", f.Path, "%s", f.Why)
		}
	}
	for path, set := range map[string]bool{"spec.gossipConfig": spec.Gossip != nil, "spec.dnsControllerGossipConfig": spec.DNSControllerGossip != nil} {
		if set {
			r.find("MU605", path, "%s is set", path)
		}
	}
	if spec.Size(cluster.RoleControlPlane) == 1 {
		r.find("MU603", spec.Name, "minSize of all control-plane groups together is 1")
	}
	if in.Manifest.Terraform {
		r.find("MU606", spec.Name, "spec.target.terraform is set")
	}
	for _, f := range spec.Refusals(cluster.Gossip, cluster.Release136) {
		if f.Code == cluster.CodeWorkersStripped && in.gossips() {
			r.find("MU608", spec.Name, "%s", f.Why)
		}
	}
	observedBalancers(in, r)
}

// observedBalancers: what stands in front of the API, where the spec says otherwise.
func observedBalancers(in Input, r *Report) {
	if in.Cloud == nil || in.Spec.Cloud != cluster.AWS || in.Spec.API.LoadBalancer == nil || in.Spec.API.LoadBalancer.Class != cluster.LoadBalancerNetwork {
		return
	}
	for _, lb := range in.Cloud.LoadBalancers {
		if lb.Class == classic {
			f := r.find("MU601", lb.Name, "the spec asks for class Network, and the classic one is still there")
			f.Severity, f.Blocks = Low, Nothing
		}
	}
}

// permissions: what the roles of workers hold.
func permissions(in Input, r *Report) {
	if in.Cloud == nil {
		return
	}
	for _, role := range in.Cloud.Roles {
		if !slices.Contains(role.Roles, cluster.RoleNode) || slices.Contains(role.Roles, cluster.RoleControlPlane) || role.Kind == cloud.KindToken {
			continue // secrets are found where they are, in the user-data
		}
		terms, ok := in.workerTerms(role)
		if !ok {
			continue
		}
		held, err := iam.CompareRole(in.Spec.Cloud, role, terms)
		if err != nil {
			r.find("MU204", role.Name, "%v", err)
			continue
		}
		policyFindings(in, r, role, terms, held)
	}
	secrets(in, r)
}

// workerTerms are those of the workers' role under the topology.
func (in Input) workerTerms(role cloud.Role) (iam.Terms, bool) {
	release, _ := in.release()
	t := iam.Terms{Role: cluster.RoleNode, Topology: in.Topology(), Release: release, Cluster: in.Spec.Name, Registry: in.Manifest.Registry}
	for _, g := range in.Cloud.Groups {
		for _, b := range append([]*cloud.BootConfig{g.Template.Boot}, bootsOf(g)...) {
			if b != nil && b.ConfigBase != "" {
				t.State = strings.TrimPrefix(strings.TrimRight(b.ConfigBase, "/"), "s3://")
			}
			// Whoever still gossips needs what gossip needs.
			if g.Template.Permissions == role.Name && bootconfig.Path(b) == cloud.BootGossip {
				t.Topology = cluster.Gossip
			}
		}
	}
	if t.Topology == cluster.Gossip { // 1.37 has no needs for it
		t.Release = min(t.Release, cluster.Release136)
	}
	if held, err := iam.PoliciesOf(role); err == nil {
		t.Partition = iam.PartitionOf(held)
	}
	return t, t.Check() == nil
}

func bootsOf(g cloud.Group) []*cloud.BootConfig {
	var all []*cloud.BootConfig
	for _, i := range g.Living() {
		all = append(all, i.Boot)
	}
	return all
}

const describeInstances = "ec2:DescribeInstances"

func policyFindings(in Input, r *Report, role cloud.Role, terms iam.Terms, held iam.Comparison) {
	excess, unclear, left := standings(role, held)
	if in.Spec.Cloud == cluster.AWS {
		readers(in, r, role)
	}
	if len(excess) > 0 {
		r.find("MU202", role.Name, "%d permissions without need: %s", len(excess), strings.Join(excess, ", ")).GoneAfter = in.narrowed(role, func(rest cloud.Role) bool {
			held, err := iam.CompareRole(in.Spec.Cloud, rest, terms)
			excess, _, _ := standings(rest, held)
			return err != nil || len(excess) > 0
		})
	}
	if len(left) > 0 {
		r.find("MU207", role.Name, "%s", strings.Join(left, ", "))
	}
	if len(unclear) > 0 {
		r.find("MU204", role.Name, "%s", strings.Join(unclear, ", "))
	}
	why, unread := in.gap("permissions", role.Name)
	if unread {
		r.find("MU204", role.Name, "%s", why)
	}
	for _, n := range held.Missing {
		if len(role.Managed) == 0 && !unread {
			f := r.find("MU203", role.Name, "%s is missing: %s %s", strings.Join(n.Actions, ", "), n.Caller, n.Why)
			r.causes(in, f, LinkPermissions)
			if neededLater(terms, n) {
				f.GoneAfter = Stays
			}
		}
	}
}

// standings sorts what a role holds besides what it needs: excess, what could not be
// judged, and what a cloud keeps after kOps has stopped granting it.
func standings(role cloud.Role, held iam.Comparison) (excess, unclear, left []string) {
	for _, h := range held.Holdings {
		switch {
		case h.Standing == iam.Unclear:
			unclear = append(unclear, h.What)
		case h.Standing == iam.Needed:
		case role.Kind == cloud.KindBinding && h.Standing == iam.Excess:
			left = append(left, h.What)
		default:
			excess = append(excess, h.What)
		}
	}
	return excess, unclear, left
}

// neededLater reports whether workers that no longer gossip need something, too.
func neededLater(t iam.Terms, n iam.Need) bool {
	t.Topology = cluster.None
	return slices.ContainsFunc(iam.Needs(t), func(later iam.Need) bool { return later.Name == n.Name })
}

// readers: what a role lets workers read beyond their own cluster's needs.
func readers(in Input, r *Report, role cloud.Role) {
	list := iam.Request{Action: describeInstances, Resource: "*"}
	if allows(role, list) {
		r.find("MU201", role.Name, "may list every instance of the account (%s on *)", describeInstances).GoneAfter = in.narrowed(role, func(rest cloud.Role) bool {
			return allows(rest, list)
		})
	}
	if object := storeRead(in, role); object != "" {
		r.find("MU205", role.Name, "may read %s", object).GoneAfter = in.narrowed(role, func(rest cloud.Role) bool {
			return storeRead(in, rest) != ""
		})
	}
}

// storeRead returns an object of the state store that a role lets one read.
func storeRead(in Input, role cloud.Role) string {
	policies, _ := iam.PoliciesOf(role) // readable: it was compared
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

// secrets: what workers' user-data carries.
func secrets(in Input, r *Report) {
	for _, g := range in.Cloud.Groups {
		if g.Role == cluster.RoleControlPlane || g.Role == cluster.RoleAPIServer {
			continue
		}
		var names []string
		for _, b := range append([]*cloud.BootConfig{g.Template.Boot}, bootsOf(g)...) {
			if b != nil {
				names = append(names, b.Credentials...)
			}
		}
		slices.Sort(names)
		if names = slices.Compact(names); len(names) > 0 {
			r.find("MU206", g.Name, "user-data exports %s", strings.Join(names, ", "))
		}
	}
}
