package rehearse

import (
	"log/slog"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

// Config configures a rehearsal.
type Config struct {
	// File names the source of the spec, for the evidence.
	File string
	// Cluster is the spec. Required.
	Cluster *cluster.Cluster
	// To is the target topology, hybrid or none. Required.
	To cluster.Topology
	// Overlay is what the cluster gossips over initially. Required.
	Overlay lab.Overlay
	// Plan is the plan to rehearse; nil searches for one for the spec.
	Plan *plan.Plan
	// Boots makes the workers kOps nodes, by group, as they were observed; nil gives
	// them Muster's programs, which run side by side during the change.
	Boots map[string]lab.Boot
	// Fault is the kind of fault to inject, see [FaultKinds]; empty for none.
	Fault string
	// Dir receives the lab's files. Required; must be empty.
	Dir string
	// Programs to run. Required.
	Programs lab.Programs
	// Netns gives every node a network namespace.
	Netns bool
	// Kubernetes are the programs of a real control plane; the zero value uses the
	// lab's built-in API servers.
	Kubernetes lab.Kubernetes
	// Log receives the lab's own events; nil discards.
	Log *slog.Logger
	// Progress receives events as they happen; it must not block. Required.
	Progress Progress
}

// API returns a name for what serves the lab's API.
func (c Config) API() string {
	if c.Kubernetes.Real() {
		return "kube-apiserver"
	}
	return "built in"
}

// Progress receives the events of a rehearsal. Its methods are called from several
// goroutines.
type Progress interface {
	// Started is called once, when the lab is up.
	Started(layout lab.Layout, steps int, processes int)
	// Step is called when a step begins; number counts from 1.
	Step(number int, title string)
	// Acting is called when an action begins.
	Acting(node, what string)
	// Gate is called with every gate's outcome.
	Gate(node string, g report.Gate)
	// Note is called with other messages, one line each.
	Note(text string)
	// Watch is called twice a second with the probers' figures.
	Watch(Pulse)
}

// Pulse is a snapshot of the probers' figures.
type Pulse struct {
	Sent, Failed int
	Longest      time.Duration
	Working      map[probe.Path]int // workers on which a path works
	Workers      int
}

// Start returns the topology in which the lab starts: none if the spec is None and
// no control-plane node of the plan's starts gossips; hybrid if the plan starts
// there, or if the spec is None and some still do; otherwise gossip. Without a plan
// a cluster that kOps 1.36 has made hybrid is rehearsed from gossip, the longer
// way.
func (c Config) Start() cluster.Topology {
	none, hybrid, gossips := c.Cluster.UsesNoneDNS(), false, false
	if c.Plan != nil {
		hybrid = c.Plan.Problem.From == cluster.Hybrid
		for _, s := range c.Plan.Problem.Starts {
			gossips = gossips || s.State.Members.GossipKnown+s.State.Members.GossipStale > 0
		}
	}
	switch {
	case none && !gossips:
		return cluster.None
	case none || hybrid:
		return cluster.Hybrid
	default:
		return cluster.Gossip
	}
}
