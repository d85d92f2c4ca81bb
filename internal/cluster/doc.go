// Package cluster holds what a kOps cluster says about itself: its spec, its
// names, its roles and the rules by which kOps decides how nodes find the API.
//
// [Parse] reads the YAML that "kops get --name NAME -o yaml" prints and names
// file and line of everything it cannot use. [Cluster.Topology] and the
// predicates beside it answer as one kOps release line would, because the same
// spec means gossip to kOps 1.35 and hybrid to kOps 1.36. [Cluster.Refusals]
// says what stands between a spec and another topology, and [OwnsName] which
// names may ever reach a node's hosts file.
//
// The package is not a kOps API: it reads the few fields that decide discovery
// and ignores the hundreds that do not. It does not plan an order of changes,
// it does not talk to a cloud, and it does not know what a running cluster
// looks like.
//
// Invariants: the package is pure (bytes in, values out; no I/O, no clock, no
// state), it never panics on foreign input, a parsed cluster has a name and at
// least one control-plane node and one worker, at most one topology holds for
// a cluster and a release, and a gossip secret never appears in an error or in
// anything printed.
package cluster
