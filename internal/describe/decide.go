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

// decision is a topology and how it was decided.
type decision struct {
	topology string
	why      string
	release  cluster.Release
	known    bool // release is
}

// decide works out the topology: by the kOps that last updated the cluster, or by
// the templates if the store does not say, or by all releases agreeing.
func decide(f Facts) decision {
	d := decision{topology: unknown}
	reasons := []string{"dns.type " + cmp.Or(string(f.Spec.DNSType), "not set")}
	if cluster.IsGossipName(f.Spec.Name) {
		reasons = append([]string{"name ends in .k8s.local"}, reasons...)
	}
	if !f.Spec.UsesNoneDNS() && cluster.IsGossipName(f.Spec.Name) {
		reasons = append(reasons, balancerWords(f.Spec))
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
	// Without a release that is known, what all of them agree on holds.
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

func balancerWords(spec *cluster.Cluster) string {
	lb := spec.API.LoadBalancer
	switch {
	case lb == nil:
		return "no load balancer"
	case spec.Cloud == cluster.AWS:
		return "load balancer class " + cmp.Or(string(lb.Class), string(cluster.LoadBalancerClassic))
	}
	return "load balancer"
}

// templatesVersion is the kOps version of all templates, if it is one.
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

// deadline says how long kOps carries the cluster as it is; empty if for good.
func deadline(spec *cluster.Cluster) string {
	if spec.UsesNoneDNS() || !cluster.IsGossipName(spec.Name) {
		return ""
	}
	d := cluster.Deadline()
	return fmt.Sprintf("kOps %s refuses gossip clusters; %s is the only bridge", d.Refused, d.Bridge)
}

// Permission is what a role may do, in a line.
type Permission struct {
	Role  string         `json:"role"`
	Roles []cluster.Role `json:"roles"`
	// Breadth is narrow if nothing is held that is not needed, broad if something
	// is, and unknown.
	Breadth string `json:"breadth"`
	Line    string `json:"line"`
	// Excess are the things held and not needed.
	Excess []string `json:"excess"`
}

// permission sets what a role holds against what its nodes need.
func permission(r cloud.Role, f Facts, d decision) Permission {
	out := Permission{Role: r.Name, Roles: r.Roles, Breadth: unknown, Excess: []string{}}
	terms := iam.Terms{Topology: cluster.Topology(d.topology), Release: d.release, Cluster: f.Spec.Name}
	if len(r.Roles) > 0 {
		terms.Role = r.Roles[0]
	}
	// An ECR permission is wanted by a field of the spec that is not read here;
	// to hold it is no excess.
	terms.Registry = true
	if !d.known || terms.Check() != nil {
		out.Line = holds(r) + "; what it needs under this topology is not known"
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
	out.Line = holds(r) + excessWords(out.Excess, unclear)
	return out
}

func holds(r cloud.Role) string {
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

func excessWords(excess []string, unclear int) string {
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
