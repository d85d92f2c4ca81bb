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

// Config says what to rehearse.
type Config struct {
	// File is where the spec came from, for the evidence.
	File string
	// Cluster is the spec. Required.
	Cluster *cluster.Cluster
	// To is the topology to reach: hybrid or none. Required.
	To cluster.Topology
	// Overlay is what the cluster gossips over at first. Required.
	Overlay lab.Overlay
	// Plan is what to rehearse; nil rehearses the plan that is found for the spec.
	Plan *plan.Plan
	// Boots makes the workers kOps's own, by group, as they were observed; nil
	// gives them Muster's programs, one beside the other while they change.
	Boots map[string]lab.Boot
	// Fault is the kind of fault to inject; "" is none.
	Fault string
	// Dir receives the lab's files. Required; must be empty.
	Dir string
	// Programs to run. Required.
	Programs lab.Programs
	// Netns gives every node a network namespace.
	Netns bool
	// Kubernetes are the programs of a real control plane; the zero value has the
	// lab's built-in API servers.
	Kubernetes lab.Kubernetes
	// Log receives the lab's own events; nil discards.
	Log *slog.Logger
	// Progress is told what happens, as it happens. It must return quickly.
	Progress Progress
}

// API says what serves the API of the lab.
func (c Config) API() string {
	if c.Kubernetes.Real() {
		return "kube-apiserver"
	}
	return "built in"
}

// Progress follows a rehearsal. Its methods are called from several goroutines.
type Progress interface {
	// Started is called once, when the lab is up.
	Started(layout lab.Layout, steps int, processes int)
	// Step is called when a step begins; number counts from 1.
	Step(number int, title string)
	// Acting is called when an action begins.
	Acting(node, what string)
	// Gate is called with every gate's outcome.
	Gate(node string, g report.Gate)
	// Note is called with anything else worth a line.
	Note(text string)
	// Watch is called twice a second with what the probers see.
	Watch(Pulse)
}

// Pulse is what the probers see at one moment.
type Pulse struct {
	Sent, Failed int
	Longest      time.Duration
	Working      map[probe.Path]int // workers on which a path works
	Workers      int
}

// Start is the topology that the lab starts in: none if the spec is there already
// and nothing that a plan begins with gossips any more; hybrid if a plan begins
// with that; and gossip whatever else the name says. What kOps 1.36 may have made
// hybrid is rehearsed from gossip too unless a plan knows better, which is the
// longer way.
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
