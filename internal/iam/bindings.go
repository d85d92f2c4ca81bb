package iam

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// CompareRole compares what a role of any cloud has with what it needs: policy documents on AWS, roles bound on
// resources on GCE and Azure, and secrets in the user-data elsewhere. It fails if a document cannot be parsed.
func CompareRole(provider cluster.Cloud, role cloud.Role, t Terms) (Comparison, error) {
	var c Comparison
	if provider == cluster.AWS {
		held, err := PoliciesOf(role)
		if err != nil {
			return c, err
		}
		c = Compare(held, Needs(t))
		for _, name := range role.Managed {
			c.Holdings = append(c.Holdings, Holding{What: "policy " + name, Standing: Unclear, Why: "an attached policy whose text was not read"})
		}
	}
	for _, b := range role.Bindings {
		if role.Kind == cloud.KindToken {
			name, _, _ := strings.Cut(b, " ") // NAME in user-data
			c.Holdings = append(c.Holdings, secret(name, t))
		} else {
			c.Holdings = append(c.Holdings, binding(provider, b, t))
		}
	}
	slices.SortStableFunc(c.Holdings, func(a, b Holding) int { return strings.Compare(a.What, b.What) })
	return c, nil
}

// PoliciesOf parses the documents of an AWS role, sorted by name.
func PoliciesOf(role cloud.Role) ([]Policy, error) {
	names := make([]string, 0, len(role.Policies))
	for name := range role.Policies {
		names = append(names, name)
	}
	slices.Sort(names)
	var all []Policy
	for _, name := range names {
		p, err := Parse("role "+role.Name+", policy "+name, []byte(role.Policies[name]))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// PartitionOf returns the partition of the first ARN among the policies'
// resources, or aws.
func PartitionOf(policies []Policy) string {
	for _, p := range policies {
		for _, s := range p.Statements {
			for _, r := range s.Resource.Patterns {
				if parts := strings.SplitN(r, ":", 3); len(parts) == 3 && parts[0] == "arn" && !strings.ContainsAny(parts[1], "*?$") {
					return parts[1]
				}
			}
		}
	}
	return "aws"
}

// grant is a cloud's role, and which nodes need it.
type grant struct {
	names        []string // lower case; a binding's text contains one of them
	needed       func(Terms) bool
	enough       string // a smaller role that would be enough, for those who need it
	caller       string
	why          string
	notNeededWhy string // why nodes have it that do not need it
}

func controlPlane(t Terms) bool { return t.Role == cluster.RoleControlPlane }

// inGossip reports whether nodes look for seeds and read the state store themselves.
func inGossip(t Terms) bool {
	return controlPlane(t) && t.Topology != cluster.None || t.Topology == cluster.Gossip
}

var grants = map[cluster.Cloud][]grant{
	cluster.GCE: {
		{names: []string{"roles/compute.viewer"}, needed: func(t Terms) bool { return !controlPlane(t) && inGossip(t) }, caller: "protokube",
			why: "lists zones and instances as gossip seeds", notNeededWhy: "kOps up to 1.35 binds it for every worker and kOps 1.36 does not take it back; it lists the whole project"},
		{names: []string{"roles/container.serviceagent"}, needed: controlPlane, caller: "cloud-controller-manager, CSI driver",
			why: "runs load balancers, routes and volumes", notNeededWhy: "it is the control plane's"},
		{names: []string{"roles/storage.objectadmin"}, needed: controlPlane, caller: "etcd-manager",
			why: "writes and expires etcd's backups", notNeededWhy: "it is the control plane's: it rewrites backups"},
		{names: []string{"roles/storage.objectviewer"}, needed: func(t Terms) bool { return controlPlane(t) || inGossip(t) }, caller: "nodeup",
			why: "reads configuration from the state store", notNeededWhy: "nodes that ask kops-controller read no state store"},
	},
	cluster.Azure: {
		{names: []string{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "owner"}, needed: inGossip, enough: "Reader on the resource group, or Contributor for the control plane", caller: "protokube",
			why: "lists scale sets and their network interfaces as gossip seeds", notNeededWhy: "kOps up to 1.35 assigns it to every scale set and kOps 1.36 does not take it back; az role assignment delete does"},
		{names: []string{"b24988ac-6180-42a0-ab88-20f7382dd24c", "contributor"}, needed: controlPlane, caller: "cloud-controller-manager",
			why: "runs load balancers and disks", notNeededWhy: "it is the control plane's"},
		{names: []string{"ba92f5b4-2d11-453d-a403-e96b0029c9fe", "storage blob data contributor"}, needed: func(t Terms) bool { return controlPlane(t) || inGossip(t) }, caller: "nodeup, etcd-manager",
			why: "reads the state store, and on the control plane writes backups", notNeededWhy: "kOps up to 1.35 assigns it to every scale set and kOps 1.36 does not take it back; it rewrites the state store"},
	},
}

func binding(provider cluster.Cloud, text string, t Terms) Holding {
	h := Holding{What: text, Standing: Excess, Why: "nothing of kOps asks it"}
	name, _, _ := strings.Cut(lower(text), " on ")
	// "storage blob data contributor" contains "contributor": the longest name wins.
	best := 0
	for _, g := range grants[provider] {
		for _, n := range g.names {
			if !strings.Contains(name, n) || len(n) <= best {
				continue
			}
			best = len(n)
			h.Standing, h.Caller, h.Why = Excess, "", g.notNeededWhy
			if g.needed(t) {
				h.Standing, h.Caller, h.Why = Needed, g.caller, g.why
				if g.enough != "" {
					h.Standing, h.Why = Wider, g.enough+" is enough: "+g.why
				}
			}
		}
	}
	return h
}

// secret compares a secret in a node's user-data with what the node needs.
func secret(name string, t Terms) Holding {
	h := Holding{What: "secret " + name, Standing: Excess}
	switch {
	case strings.HasPrefix(name, "S3_") || strings.HasPrefix(name, "AWS_"):
		h.Why = "opens the state store to whoever reads the node's metadata"
		if controlPlane(t) {
			h.Standing, h.Caller, h.Why = Needed, "nodeup, etcd-manager", "reads the state store and writes backups"
		}
	case controlPlane(t) && strings.HasPrefix(name, "OS_"), controlPlane(t) && t.Release < cluster.Release137:
		h.Standing, h.Caller, h.Why = Needed, "cloud-controller-manager, etcd-manager", "asks the cloud about volumes, load balancers and servers"
	case controlPlane(t):
		h.Why = fmt.Sprintf("kOps %s no longer exports it to control-plane nodes; add-ons have it as a Secret", cluster.Release137)
	case t.Topology == cluster.Gossip:
		h.Standing, h.Caller, h.Why = Wider, "protokube", "lists servers as gossip seeds, but the token may do everything in the project"
	default:
		h.Why = "nodes that ask kops-controller need no cloud; rotate it, since old templates and metadata keep it"
	}
	return h
}
