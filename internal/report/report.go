// Package report defines the evidence of rehearsals and migrations, and formats it as JSON, text and HTML: what was
// done, what was measured, which rules held. It does not measure anything, and does not decide whether a gate passes.
//
// The package is pure: what it renders depends only on its values. Evidence contains no secrets, but may contain
// consoles of machines, so output is escaped or stripped of control characters.
package report

import (
	"time"

	"github.com/muster-dev/muster/internal/probe"
)

// Verdict is the result of a gate or of a whole rehearsal.
type Verdict string

// Only Pass lets a run continue: Unknown is not a pass.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	Unknown Verdict = "unknown"
)

// Gate is one condition with its result.
type Gate struct {
	Name    string        `json:"name"`
	Verdict Verdict       `json:"verdict"`
	Reason  string        `json:"reason,omitempty"`
	Took    time.Duration `json:"tookNs"`
}

// Action is one change to one node, or to the cluster as a whole.
type Action struct {
	Node  string        `json:"node,omitempty"`
	What  string        `json:"what"`
	Error string        `json:"error,omitempty"`
	Gates []Gate        `json:"gates"`
	Took  time.Duration `json:"tookNs"`
}

// Step is one numbered step of a plan.
type Step struct {
	Title   string        `json:"title"`
	Why     string        `json:"why"`
	Actions []Action      `json:"actions"`
	Took    time.Duration `json:"tookNs"`
}

// Rule is a condition that must hold from beginning to end.
type Rule struct {
	Name   string `json:"name"`
	Held   bool   `json:"held"`
	Detail string `json:"detail"`
}

// Gossip is what gossips on a node, read from the kernel rather than the configuration.
type Gossip struct {
	Processes []string `json:"processes"`
	Ports     []string `json:"ports"`
}

// Any reports whether anything on the node gossips.
func (g Gossip) Any() bool { return len(g.Processes)+len(g.Ports) > 0 }

// Worker is the evidence of one worker.
type Worker struct {
	Name         string          `json:"name"`
	Group        string          `json:"group"`
	Paths        []probe.Figures `json:"paths"`
	Losses       []probe.Loss    `json:"losses,omitempty"`
	GossipBefore Gossip          `json:"gossipBefore"`
	GossipAfter  Gossip          `json:"gossipAfter"`
}

// Program is the composition of a role's program, read from the binary.
type Program struct {
	Role     string   `json:"role"`
	Program  string   `json:"program"`
	Bytes    int64    `json:"bytes"`
	Modules  []string `json:"modules"`
	Overlays []string `json:"overlays"` // gossip libraries among the modules
	Clouds   []string `json:"clouds"`   // cloud SDKs among the modules
}

// Fault is a fault injected into the cluster.
type Fault struct {
	Kind   string `json:"kind"`
	Target string `json:"target,omitempty"`
	During string `json:"during"` // the step during which it was injected
	What   string `json:"what"`
	Error  string `json:"error,omitempty"`
}

// Probes are the figures of all workers and paths.
type Probes struct {
	Sent   int `json:"sent"`
	Failed int `json:"failed"`
}

// Rehearsal is the evidence of one cluster's rehearsal.
type Rehearsal struct {
	File     string        `json:"file"`
	Cluster  string        `json:"cluster"`
	From     string        `json:"from"`
	To       string        `json:"to"`
	Overlay  string        `json:"overlay,omitempty"` // the gossip overlay; empty if none
	Verdict  Verdict       `json:"verdict"`
	Refused  string        `json:"refused,omitempty"` // why it was not rehearsed
	Probes   Probes        `json:"probes"`
	Lost     int           `json:"lostPaths"` // workers that had no working path at some time
	Workers  int           `json:"workers"`
	Gossip   int           `json:"workersGossiping"` // at the end
	Rules    []Rule        `json:"rules"`
	Fault    *Fault        `json:"fault,omitempty"`
	Steps    []Step        `json:"steps"`
	Nodes    int           `json:"nodes"`
	Procs    int           `json:"processes"`
	API      string        `json:"apiServer"`
	PerNode  []Worker      `json:"perWorker"`
	Programs []Program     `json:"programs"`
	Took     time.Duration `json:"tookNs"`
	Dir      string        `json:"dir,omitempty"` // where logs and samples are kept
}

// New returns a rehearsal without evidence. Its verdict is Fail until something else is known.
func New(file, cluster, to string) Rehearsal {
	return Rehearsal{
		File: file, Cluster: cluster, To: to, Verdict: Fail,
		Rules: []Rule{}, Steps: []Step{}, PerNode: []Worker{}, Programs: []Program{},
	}
}

// Result is the evidence of one or more rehearsals, the object at the end of the output of `muster rehearse -o json`.
type Result struct {
	Verdict    Verdict     `json:"verdict"`
	Probes     Probes      `json:"probes"`
	Lost       int         `json:"lostPaths"`
	Workers    int         `json:"workers"`
	Gossip     int         `json:"workersGossiping"`
	Rehearsals []Rehearsal `json:"rehearsals"`
}

// Combine sums up rehearsals. It passes only if there is at least one and all passed. A refused one has not passed.
func Combine(all []Rehearsal) Result {
	r := Result{Verdict: Pass, Rehearsals: all}
	for _, one := range all {
		r.Probes.Sent += one.Probes.Sent
		r.Probes.Failed += one.Probes.Failed
		r.Lost += one.Lost
		r.Workers += one.Workers
		r.Gossip += one.Gossip
		if one.Verdict != Pass {
			r.Verdict = Fail
		}
	}
	if len(all) == 0 {
		r.Verdict = Fail
	}
	return r
}
