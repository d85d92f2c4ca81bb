package iam

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
)

// Terms say whose permissions are meant.
type Terms struct {
	Role     cluster.Role     // ControlPlane or Node
	Topology cluster.Topology // gossip, hybrid or none
	Release  cluster.Release  // of the kOps that configured the nodes

	// Cluster, Partition, Region and the two paths are filled into ARNs. Empty means any: good for comparing but not
	// for rendering.
	Cluster   string
	Partition string // such as aws
	Region    string
	State     string // of the cluster in the state store, as BUCKET/PATH
	Backups   string // of the cluster in the store of etcd's backups, as BUCKET/PATH; empty: State

	// Registry: nodes pull from the account's own registry (spec.iam.allowContainerRegistry).
	Registry bool
	// ServiceAccounts: add-ons have their own roles (spec.iam.useServiceAccountExternalPermissions).
	ServiceAccounts bool
}

// Check returns an error for terms without a table of needs.
func (t Terms) Check() error {
	switch {
	case t.Role != cluster.RoleControlPlane && t.Role != cluster.RoleNode:
		return fmt.Errorf("role %q has no table of needs; it is %s or %s", t.Role, cluster.RoleControlPlane, cluster.RoleNode)
	case t.Topology != cluster.Gossip && t.Topology != cluster.Hybrid && t.Topology != cluster.None:
		return fmt.Errorf("topology %q has no table of needs; it is %s, %s or %s", t.Topology, cluster.Gossip, cluster.Hybrid, cluster.None)
	case t.Topology == cluster.Hybrid && t.Release != cluster.Release136:
		return fmt.Errorf("kOps %s has no hybrid; %s alone does", t.Release, cluster.Release136)
	case t.Topology == cluster.Gossip && t.Release >= cluster.Release137:
		return fmt.Errorf("kOps %s has no gossip; %s is the last that does", t.Release, cluster.Release136)
	}
	return nil
}

// Need is something that a node must be allowed to do.
type Need struct {
	Name       string      `json:"name"`   // Sid of the statement
	Caller     string      `json:"caller"` // the program that does it
	Why        string      `json:"why"`    // what for, and the consequence without it
	Actions    []string    `json:"actions"`
	Resources  []string    `json:"resources"`
	Conditions []Condition `json:"-"`
	// Boot: without it a booting node does not join.
	Boot bool `json:"boot,omitempty"`
	// Open: the terms leave a name in it open, so that some part of it is enough.
	Open bool `json:"-"`
}

// Needs returns what nodes need on AWS under the given terms, which must have passed [Terms.Check].
func Needs(t Terms) []Need {
	var needs []Need
	for _, r := range table {
		if !r.applies(t) {
			continue
		}
		n := r.need
		n.Resources = make([]string, len(r.need.Resources))
		for i, text := range r.need.Resources {
			n.Resources[i] = t.fill(text)
			n.Open = n.Open || t.open(text)
		}
		n.Conditions = make([]Condition, len(r.need.Conditions))
		for i, c := range r.need.Conditions {
			c.Values = slices.Clone(c.Values)
			for j, v := range c.Values {
				c.Values[j] = t.fill(v)
				n.Open = n.Open || t.open(v)
			}
			n.Conditions[i] = t.generalise(c)
		}
		needs = append(needs, n)
	}
	return needs
}

// row is a need and when it applies.
type row struct {
	role       cluster.Role
	topologies []cluster.Topology // empty: all
	from, to   cluster.Release    // both inclusive; zero: no bound
	registry   bool               // only with Terms.Registry
	addOn      bool               // only without Terms.ServiceAccounts
	need       Need
}

func (r row) applies(t Terms) bool {
	return r.role == t.Role &&
		(len(r.topologies) == 0 || slices.Contains(r.topologies, t.Topology)) &&
		(r.from == 0 || t.Release >= r.from) &&
		(r.to == 0 || t.Release <= r.to) &&
		(!r.registry || t.Registry) &&
		(!r.addOn || !t.ServiceAccounts)
}

// names are the placeholders in the table, with their values; empty if the terms leave them open.
func (t Terms) names() [][2]string {
	backups := cmp.Or(t.Backups, t.State)
	stateBucket, _, _ := strings.Cut(t.State, "/")
	backupsBucket, _, _ := strings.Cut(backups, "/")
	return [][2]string{
		{"{partition}", t.Partition}, {"{region}", t.Region}, {"{cluster}", t.Cluster},
		{"{state}", t.State}, {"{state-bucket}", stateBucket}, {"{backups}", backups}, {"{backups-bucket}", backupsBucket},
	}
}

// fill replaces the placeholders in a text of the table.
func (t Terms) fill(text string) string {
	for _, n := range t.names() {
		text = strings.ReplaceAll(text, n[0], cmp.Or(n[1], "*"))
	}
	return text
}

// open reports whether a text has a placeholder that the terms leave open.
func (t Terms) open(text string) bool {
	return slices.ContainsFunc(t.names(), func(n [2]string) bool { return n[1] == "" && strings.Contains(text, n[0]) })
}

// generalise turns a comparison with "any" into one that holds for any value.
func (t Terms) generalise(c Condition) Condition {
	if c.Operator == "StringEquals" && t.Cluster == "" && slices.Contains(c.Values, "*") {
		c.Operator = "StringLike"
	}
	return c
}

// PolicyOf returns the policy that grants exactly these needs.
func PolicyOf(needs []Need) Policy {
	p := Policy{Version: Version2012}
	for _, n := range needs {
		p.Statements = append(p.Statements, Statement{
			Sid: n.Name, Effect: Allow,
			Action: Selector{Patterns: n.Actions}, Resource: Selector{Patterns: n.Resources}, Conditions: n.Conditions,
		})
	}
	return p
}
