package plan

import (
	"fmt"

	"github.com/muster-dev/muster/internal/cluster"
)

// Executor is what carries a plan out. It decides what a step does beside what
// it is meant to do.
type Executor string

// The executors.
const (
	// Kops: kOps 1.36 with the cloud's API. Its update is one large step.
	Kops Executor = "kops"
	// Terraform: a person applies what kOps 1.36 wrote, target by target.
	Terraform Executor = "terraform"
	// Lab: every step does what it says and nothing else.
	Lab Executor = "lab"
)

// Executors returns all executors.
func Executors() []Executor { return []Executor{Kops, Terraform, Lab} }

// Endpoints is what workers are born with once they do not gossip.
type Endpoints string

// The kinds of endpoints.
const (
	// Balancer: the addresses of the API's load balancer.
	Balancer Endpoints = "load-balancer"
	// Addresses: the control plane's own, behind muster-agent's local balancer.
	Addresses Endpoints = "list"
)

// Problem is what to find a plan for.
type Problem struct {
	Cluster   string           `json:"cluster"`
	Cloud     cluster.Cloud    `json:"cloud,omitempty"`
	From      cluster.Topology `json:"from"`
	To        cluster.Topology `json:"to"` // Gossip, Hybrid or None
	Via       Executor         `json:"via"`
	Endpoints Endpoints        `json:"endpoints"`

	// NoBridge forbids the steps that exist only while a plan runs.
	NoBridge bool `json:"noBridge,omitempty"`
	// CreateBalancer allows a load balancer, which costs money, to be made.
	CreateBalancer bool `json:"createBalancer,omitempty"`
	// MaxAway is how many workers of a group may be away at once; 0 means 1.
	MaxAway int `json:"maxAway,omitempty"`

	// Blocked are the parts of the spec that no order of steps gets around.
	Blocked []string `json:"blocked,omitempty"`

	// Groups are the instance groups with workers or control-plane nodes.
	Groups []Group `json:"groups"`

	// BalancerAddresses counts the load balancer's addresses. One is taken to
	// stay what it is; of several, one may change while the plan runs. 0 means
	// that it is not known, and is taken as several.
	BalancerAddresses int `json:"balancerAddresses,omitempty"`

	// Starts are the states that the cluster may be in. Several, where something
	// that matters could not be observed.
	Starts []Start `json:"starts"`

	effort int // visits of an explorer at most; 0 for maxVisits
}

// Again is the command that plans the same anew. called is what stands for the
// cluster in commands; what becomes of a lab is planned from its manifest.
func (p Problem) Again(called string) string {
	command := fmt.Sprintf("muster plan cluster %s --to %s", called, p.To)
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

// Group is an instance group: what a plan is put into words with.
type Group struct {
	Name string       `json:"name"`
	Role cluster.Role `json:"role"`
	// Live counts its nodes by class; of control-plane nodes the key is Gossip or
	// None.
	Live map[string]int `json:"live"`
}

// Size counts the group's nodes.
func (g Group) Size() (n int) {
	for _, k := range g.Live {
		n += k
	}
	return n
}

// Start is one state that the cluster may be in.
type Start struct {
	State State `json:"-"`
	// Assumes says what this state takes for granted of what was not observed,
	// one phrase each; empty if everything that matters was.
	Assumes []string `json:"assumes,omitempty"`
	Key     uint64   `json:"state"` // the State, packed
}

// workers counts the workers.
func (p *Problem) workers() (n int) {
	for _, g := range p.Groups {
		if g.Role == cluster.RoleNode {
			n += g.Size()
		}
	}
	return n
}

// members counts the control-plane nodes.
func (p *Problem) members() (n int) {
	for _, g := range p.Groups {
		if g.Role == cluster.RoleControlPlane {
			n += g.Size()
		}
	}
	return n
}

// goal is the class that workers end in.
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
