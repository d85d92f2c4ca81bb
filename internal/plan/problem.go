package plan

import (
	"fmt"

	"github.com/muster-dev/muster/internal/cluster"
)

// Executor is what carries a plan out. It determines the side effects of steps.
type Executor string

// The executors.
const (
	// Kops: kOps 1.36 with the cloud's API. Its update is one large step.
	Kops Executor = "kops"
	// Terraform: a person applies what kOps 1.36 rendered, target by target.
	Terraform Executor = "terraform"
	// Lab: steps have no side effects.
	Lab Executor = "lab"
)

// Executors returns all executors.
func Executors() []Executor { return []Executor{Kops, Terraform, Lab} }

// Endpoints is what workers boot with once they do not gossip.
type Endpoints string

// The kinds of endpoints.
const (
	// Balancer: the addresses of the API's load balancer.
	Balancer Endpoints = "load-balancer"
	// Addresses: the control plane's own addresses, behind muster-agent's local
	// balancer.
	Addresses Endpoints = "list"
)

// Problem is the input of a search for a plan.
type Problem struct {
	Cluster   string           `json:"cluster"`
	Cloud     cluster.Cloud    `json:"cloud,omitempty"`
	From      cluster.Topology `json:"from"`
	To        cluster.Topology `json:"to"` // Gossip, Hybrid or None
	Via       Executor         `json:"via"`
	Endpoints Endpoints        `json:"endpoints"`

	// NoBridge forbids steps whose effect lasts only while the plan runs.
	NoBridge bool `json:"noBridge,omitempty"`
	// CreateBalancer allows a load balancer to be created, which costs money.
	CreateBalancer bool `json:"createBalancer,omitempty"`
	// MaxAway is the number of workers of a group that may be away at once; 0 means 1.
	MaxAway int `json:"maxAway,omitempty"`

	// Blocked lists why no order of steps can work, if so.
	Blocked []string `json:"blocked,omitempty"`

	// Groups are the instance groups with workers or control-plane nodes.
	Groups []Group `json:"groups"`

	// BalancerAddresses is the number of the load balancer's addresses. A single one
	// is assumed to stay; of several, one may change while the plan runs. 0 means
	// unknown, and counts as several.
	BalancerAddresses int `json:"balancerAddresses,omitempty"`

	// Starts are the states that the cluster may be in; several where something
	// that matters could not be observed.
	Starts []Start `json:"starts"`

	visitLimit int // most visits of an explorer; 0 means maxVisits
}

// Again returns the command that makes the same plan anew. name identifies the
// cluster in commands; a lab is planned from its manifest instead.
func (p Problem) Again(name string) string {
	command := fmt.Sprintf("muster plan cluster %s --to %s", name, p.To)
	if p.Via == Lab {
		command = fmt.Sprintf("muster plan -f MANIFEST --to %s", p.To)
	}
	if p.Via != Kops {
		command += " --via " + string(p.Via)
	}
	if p.Endpoints != Balancer {
		command += " --endpoints " + string(p.Endpoints)
	}
	if p.NoBridge {
		command += " --no-bridge"
	}
	if p.MaxAway > 1 {
		command += fmt.Sprintf(" --max-away %d", p.MaxAway)
	}
	return command + " -o plan.yaml"
}

// Group is an instance group.
type Group struct {
	Name string       `json:"name"`
	Role cluster.Role `json:"role"`
	// Live counts its nodes by the name of their class; control-plane nodes are
	// gossip or none.
	Live map[string]int `json:"live"`
}

// Size returns the number of the group's nodes.
func (g Group) Size() (n int) {
	for _, k := range g.Live {
		n += k
	}
	return n
}

// Start is one state that the cluster may be in.
type Start struct {
	State State `json:"-"`
	// Assumes lists what this state assumes about what was not observed, one phrase
	// each; empty if everything that matters was.
	Assumes []string `json:"assumes,omitempty"`
	Key     uint64   `json:"state"` // the State, packed
}

// workers returns the number of workers.
func (p *Problem) workers() (n int) {
	for _, g := range p.Groups {
		if g.Role == cluster.RoleNode {
			n += g.Size()
		}
	}
	return n
}

// members returns the number of control-plane nodes.
func (p *Problem) members() (n int) {
	for _, g := range p.Groups {
		if g.Role == cluster.RoleControlPlane {
			n += g.Size()
		}
	}
	return n
}

// goal returns the class that every worker is to have.
func (p *Problem) goal() Class {
	switch {
	case p.To == cluster.Gossip:
		return Gossip
	case p.Endpoints == Addresses:
		return List
	case p.To == cluster.Hybrid:
		return Hybrid
	default:
		return None
	}
}
