package describe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
)

// decision is a topology and the reasons for it.
type decision struct {
	topology string
	why      string
	release  cluster.Release
	known    bool // whether release is known
}

// decide determines the topology under the kOps that last updated the cluster. Without
// a version in the store it uses that of the templates; without either, the topology is
// known only if it is the same under all releases.
func decide(f Facts) decision {
	d := decision{topology: unknown}
	reasons := []string{"dns.type " + cmp.Or(string(f.Spec.DNSType), "not set")}
	if cluster.IsGossipName(f.Spec.Name) {
		reasons = append([]string{"name ends in .k8s.local"}, reasons...)
	}
	if !f.Spec.UsesNoneDNS() && cluster.IsGossipName(f.Spec.Name) {
		reasons = append(reasons, balancerText(f.Spec))
	}
	version, source := f.KopsVersion, "kOps "+f.KopsVersion
	if version == "" {
		version = templatesVersion(f.Seen)
		source = "templates of kOps " + version
	}
	if r, err := cluster.ParseRelease(version); err == nil {
		d.release, d.known = r, true
		d.topology = string(f.Spec.Topology(r))
		d.why = strings.Join(append(reasons, source), ", ")
		return d
	}
	// No known release: it has to be the same under all of them.
	first := f.Spec.Topology(cluster.Release134)
	for _, r := range cluster.Releases() {
		if t := f.Spec.Topology(r); t != first {
			d.why = strings.Join(reasons, ", ") + fmt.Sprintf("; %s under kOps %s, %s under %s", first, cluster.Release135, f.Spec.Topology(cluster.Release136), cluster.Release136)
			return d
		}
	}
	d.topology, d.why = string(first), strings.Join(reasons, ", ")
	return d
}

func balancerText(spec *cluster.Cluster) string {
	lb := spec.API.LoadBalancer
	switch {
	case lb == nil:
		return "no load balancer"
	case spec.Cloud == cluster.AWS:
		return "load balancer class " + cmp.Or(string(lb.Class), string(cluster.LoadBalancerClassic))
	}
	return "load balancer"
}

// templatesVersion returns the kOps version of the templates; empty if they differ or
// none is known.
func templatesVersion(o *cloud.Observation) string {
	if o == nil {
		return ""
	}
	version := ""
	for _, g := range o.Groups {
		if g.Template.Boot == nil {
			continue
		}
		if v := g.Template.Boot.KopsVersion; version != "" && v != version {
			return ""
		} else {
			version = v
		}
	}
	return version
}

// deadline returns until when kOps supports the cluster as it is; empty if there is no
// end.
func deadline(spec *cluster.Cluster) string {
	if spec.UsesNoneDNS() || !cluster.IsGossipName(spec.Name) {
		return ""
	}
	d := cluster.Deadline()
	return fmt.Sprintf("kOps %s refuses gossip clusters; %s is the only bridge", d.Refused, d.Bridge)
}

// Permission is the summary of a role's permissions.
type Permission struct {
	Role  string         `json:"role"`
	Roles []cluster.Role `json:"roles"`
	// Breadth is narrow if everything that the role has is needed, broad if not, or
	// unknown.
	Breadth string `json:"breadth"`
	Line    string `json:"line"`
	// Excess is what the role has without need.
	Excess []string `json:"excess"`
}

// permission compares what a role has with what its nodes need.
func permission(r cloud.Role, f Facts, d decision) Permission {
	out := Permission{Role: r.Name, Roles: r.Roles, Breadth: unknown, Excess: []string{}}
	terms := iam.Terms{Topology: cluster.Topology(d.topology), Release: d.release, Cluster: f.Spec.Name}
	if len(r.Roles) > 0 {
		terms.Role = r.Roles[0]
	}
	// ECR permissions depend on a field of the spec that this package does not read, so
	// they do not count as excess.
	terms.Registry = true
	if !d.known || terms.Check() != nil {
		out.Line = holdingsText(r) + "; what it needs under this topology is not known"
		return out
	}
	c, err := iam.CompareRole(f.Spec.Cloud, r, terms)
	if err != nil {
		out.Line = "a policy that cannot be read: " + err.Error()
		return out
	}
	out.Breadth = "narrow"
	unclear := 0
	for _, h := range c.Holdings {
		switch h.Standing {
		case iam.Excess, iam.Wider:
			out.Breadth = "broad"
			out.Excess = append(out.Excess, h.What)
		case iam.Unclear:
			unclear++
		}
	}
	if unclear > 0 && out.Breadth == "narrow" {
		out.Breadth = unknown
	}
	if slices.ContainsFunc(f.Seen.Gaps, func(g cloud.Gap) bool { return g.What == "permissions" && g.Subject == r.Name }) && out.Breadth == "narrow" {
		out.Breadth = unknown
	}
	out.Line = holdingsText(r) + excessText(out.Excess, unclear)
	return out
}

func holdingsText(r cloud.Role) string {
	n := len(r.Policies) + len(r.Managed) + len(r.Bindings)
	what := map[string]string{cloud.KindPolicy: "policy", cloud.KindBinding: "binding", cloud.KindToken: "token"}[r.Kind]
	return fmt.Sprintf("%d %s", n, plural(n, what))
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	if s, ok := strings.CutSuffix(word, "y"); ok {
		return s + "ies"
	}
	return word + "s"
}

func excessText(excess []string, unclear int) string {
	var b strings.Builder
	if len(excess) > 0 {
		const show = 3
		fmt.Fprintf(&b, ", %d not needed: %s", len(excess), strings.Join(excess[:min(show, len(excess))], ", "))
		if len(excess) > show {
			b.WriteString(", ...")
		}
	}
	if unclear > 0 {
		fmt.Fprintf(&b, ", %d unclear", unclear)
	}
	if b.Len() == 0 {
		return ", all of it needed"
	}
	return b.String()
}
