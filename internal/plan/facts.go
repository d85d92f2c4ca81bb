package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/iam"
)

// Fact is one observation that a plan rests on. Value is for people, Digest for
// comparison.
type Fact struct {
	Subject string `json:"subject"` // a group, a load balancer, a role, or the cluster
	What    string `json:"what"`
	Value   string `json:"value"`
	Digest  string `json:"digest"`
	// Says is the full content, for people, where Value only identifies it. Digest
	// covers it.
	Says []string `json:"says,omitempty"`
}

func fact(subject, what, value string, of ...any) Fact {
	if len(of) == 0 {
		of = []any{value}
	}
	data, err := json.Marshal(of)
	if err != nil {
		data = []byte(fmt.Sprint(of...))
	}
	return Fact{Subject: subject, What: what, Value: value, Digest: digest(data)}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// SpecFact is Fact.What of the spec itself.
const SpecFact = "spec"

// versionFact is Fact.What of the kOps version that last updated the cluster.
const versionFact = "kOps version"

// SpecFacts returns what a plan made from the spec alone rests on.
func SpecFacts(name string, manifest []byte, kopsVersion string) []Fact {
	d := digest(manifest)
	return []Fact{
		fact(name, SpecFact, d[:12], d),
		fact(name, versionFact, kopsVersion),
	}
}

// Facts returns what a plan made from an observation rests on: everything that may
// change its result, and nothing that autoscaling changes every day.
func Facts(name string, manifest []byte, kopsVersion string, stored Stored, o *cloud.Observation) []Fact {
	all := SpecFacts(name, manifest, kopsVersion)
	for _, g := range o.Groups {
		t := g.Template
		all = append(all,
			fact(g.Name, "launch template", "version "+t.Version, t.ID, t.Version, t.Hash),
			fact(g.Name, "boot path", string(bootconfig.Path(t.Boot)), t.Boot),
			fact(g.Name, "generations", generations(g)))
		if none, ok := stored.Rendered[g.Name]; ok {
			all = append(all, fact(g.Name, "rendered for None", fmt.Sprint(none)))
		}
	}
	for _, lb := range o.LoadBalancers {
		var ports []string
		for _, l := range lb.Listeners {
			ports = append(ports, fmt.Sprint(l.Port))
		}
		all = append(all,
			fact(lb.Name, "load balancer", lb.Class+" "+lb.Scheme, lb.ID, lb.Class, lb.Scheme),
			fact(lb.Name, "addresses", fmt.Sprint(lb.Addresses)),
			fact(lb.Name, "listeners", strings.Join(ports, " ")))
	}
	for _, r := range o.Roles {
		d := digest([]byte(fmt.Sprint(r.Policies, r.Bindings, r.Managed))) // fmt sorts map keys
		may := fact(r.Name, "permissions", d[:12], d)
		may.Says = iam.Words(r)
		all = append(all, may)
	}
	all = append(all,
		fact(name, "dns-controller", string(stored.Controller)),
		fact(name, "gossip ports open to workers", string(o.Network.Allows(cloud.PartyWorkers, cloud.PartyControlPlane, "tcp", 3999))))
	return all
}

// generations lists the generations of a group's live instances.
func generations(g cloud.Group) string {
	var names []string
	for _, i := range g.Living() {
		n := string(i.Generation)
		if i.Generation != cloud.GenerationNew && i.Boot != nil {
			n += " (" + string(bootconfig.Path(i.Boot)) + ")"
		}
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// Changed describes the differences between the facts that a plan was made from and
// current ones, one line each.
func Changed(then, now []Fact) (lines []string) {
	find := func(in []Fact, f Fact) int {
		return slices.IndexFunc(in, func(g Fact) bool { return g.Subject == f.Subject && g.What == f.What })
	}
	line := func(f Fact, was, is string) {
		lines = append(lines, fmt.Sprintf("%s   %s   %s -> %s", f.Subject, f.What, was, is))
	}
	for _, f := range then {
		switch i := find(now, f); {
		case i < 0:
			line(f, f.Value, "gone")
		case now[i].Digest != f.Digest && now[i].Value == f.Value:
			line(f, f.Value, now[i].Value+", with other contents")
		case now[i].Digest != f.Digest:
			line(f, f.Value, now[i].Value)
		}
	}
	for _, f := range now {
		if find(then, f) < 0 {
			line(f, "not there", f.Value)
		}
	}
	return lines
}
