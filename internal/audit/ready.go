package audit

import (
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Readiness says whether a kOps release can update the cluster.
type Readiness struct {
	Release cluster.Release `json:"release"`
	Ready   bool            `json:"ready"`
	// Becomes describes the cluster after an update by the release.
	Becomes string `json:"becomes"`
	// InTheWay is what must change first, one line each.
	InTheWay []string `json:"inTheWay"`
	// Unknown is what could not be observed but matters; it makes Ready false.
	Unknown []string `json:"unknown"`
}

// ReadyFor evaluates whether anything breaks if kOps of the given release, 1.36 or
// 1.37, updates the cluster now. r is the report on the same input.
func ReadyFor(in Input, r Report, release cluster.Release) Readiness {
	out := Readiness{Release: release, InTheWay: []string{}, Unknown: []string{}}
	target := in.Spec.Topology(release)
	if release >= cluster.Release137 && target == cluster.Gossip {
		target = cluster.None // so that only other refusals are added below
		out.block("the topology is %s, which kOps %s refuses; move to None with %s first", topologyText(in.Topology(), in.topologyBefore136()), release, cluster.Release136)
	}
	out.Becomes = in.becomes(target, release)
	if in.noneIsAhead() && release >= cluster.Release137 {
		out.block("the spec says None, and no update has applied it; finish the move with kOps %s first", cluster.Release136)
	}
	if current, known := in.release(); known && current > release {
		out.block("the cluster is configured by kOps %s already", current)
	}
	if before := in.topologyBefore136(); before != "" && release == cluster.Release136 {
		out.Unknown = append(out.Unknown, fmt.Sprintf("the kOps that configured it: if it is older than 1.36, the cluster is %s and the update changes it; --kops-version says which it is", before))
	}
	for _, f := range in.Spec.Refusals(target, release) {
		out.block("%s", f)
	}
	for _, f := range r.Findings {
		switch f.ID {
		case "MU501", "MU503":
			out.block("%s: %s (%s)", f.Subject, f.Title, f.Observed)
		case "MU502":
			out.Unknown = append(out.Unknown, f.Subject+": "+f.Observed)
		}
	}
	if in.Cloud == nil {
		out.Unknown = append(out.Unknown, "the cloud was not looked at: whether nodes join today, and what runs")
	} else {
		in.readyCloud(&out, target)
	}
	out.Ready = len(out.InTheWay) == 0 && len(out.Unknown) == 0
	return out
}

// becomes describes the cluster after an update by the release.
func (in Input) becomes(target cluster.Topology, release cluster.Release) string {
	was := in.Topology()
	if before := in.topologyBefore136(); before != "" && release == cluster.Release136 {
		was = before // a change that might be one
	}
	switch lb := in.Spec.API.LoadBalancer; {
	case in.noneIsAhead():
		return fmt.Sprintf("%s, as its spec says: the update begins the move; muster plan --to none finds an order that loses no node", target)
	case release >= cluster.Release137 && was != target:
		return "nothing: it refuses the cluster as it is"
	case was != target:
		return fmt.Sprintf("%s: its first update narrows the workers' role at once, while older workers still need it (MU102); muster plan --to %s finds an order that loses none", target, target)
	case target == cluster.Gossip && lb != nil && in.Spec.Cloud == cluster.AWS:
		return fmt.Sprintf("%s still, since its load balancer is a classic one: nothing changes for workers, and class Network comes before hybrid and None (MU601)", target)
	case target == cluster.Gossip:
		return fmt.Sprintf("%s still, since it has no load balancer, which comes before hybrid and None (MU602)", target)
	default:
		return fmt.Sprintf("%s still", target)
	}
}

func (r *Readiness) block(format string, args ...any) {
	r.InTheWay = append(r.InTheWay, fmt.Sprintf(format, args...))
}

// readyCloud checks the cloud for what the release needs. kOps writes the load
// balancer's addresses into the workers' templates; if it finds none, it writes a name
// that nothing resolves.
func (in Input) readyCloud(out *Readiness, target cluster.Topology) {
	if target == cluster.Hybrid || target == cluster.None {
		addrs, known := in.balancerAddrs()
		switch {
		case len(in.Cloud.LoadBalancers) == 0:
			if why, missing := in.gap("load balancers", ""); missing {
				out.Unknown = append(out.Unknown, "load balancers: "+why)
			} else if in.Spec.API.LoadBalancer != nil {
				out.block("the spec asks for a load balancer and the cloud has none: workers would get no address")
			}
		case len(addrs) == 0 && !known:
			out.block("no address of the load balancer can be found: workers would get a name that nothing resolves")
		}
	}
	if out.Release >= cluster.Release137 {
		if why, missing := in.instancesUnread(); missing {
			out.Unknown = append(out.Unknown, "whether nodes of an older generation are left: "+why)
		}
		for _, g := range in.Cloud.Groups {
			if g.Role == cluster.RoleNode && slices.ContainsFunc(g.Living(), func(i cloud.Instance) bool { return i.Generation != cloud.GenerationNew }) {
				out.block("%s still has nodes of an older generation; replace them with kOps %s first", g.Name, cluster.Release136)
			}
		}
	}
}
