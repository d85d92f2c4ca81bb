package bylab

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/rehearse"
	"github.com/muster-dev/muster/internal/report"
)

// Executor carries out plans on a lab. It keeps no state between calls: what is left
// to do is read from the lab each time.
type Executor struct {
	lab     labctl.Client
	problem plan.Problem
	facts   []plan.Fact
}

var _ reconcile.Executor = (*Executor)(nil)

// New returns an executor of a plan on a lab. It is an error if the plan was made for
// another executor.
func New(client labctl.Client, file plan.File) (*Executor, error) {
	if file.Problem.Via != plan.Lab {
		return nil, fmt.Errorf("plan %s is to be carried out by %s; a lab carries out those made with muster plan --via lab", file.Short(), file.Problem.Via)
	}
	return &Executor{lab: client, problem: file.Problem, facts: file.Observed}, nil
}

// Look reads the lab.
func (e *Executor) Look(ctx context.Context) (reconcile.World, error) {
	v, err := e.observe(ctx)
	if err != nil {
		return reconcile.World{}, err
	}
	facts, err := e.readFacts(v)
	if err != nil {
		return reconcile.World{}, err
	}
	state := v.state()
	if state.API && state.Config {
		state.Proven = e.proven(ctx, v)
	}
	return reconcile.World{Facts: facts, States: []plan.State{state}}, nil
}

// readFacts returns the facts of the lab's manifest. The kOps version is taken from the
// plan, since a lab runs no kOps.
func (e *Executor) readFacts(v view) ([]plan.Fact, error) {
	if v.Cluster != e.problem.Cluster {
		return nil, fmt.Errorf("the lab in %s is of cluster %s, and the plan is for %s", e.lab.Dir, v.Cluster, e.problem.Cluster)
	}
	manifest, err := os.ReadFile(v.Manifest)
	if err != nil {
		return nil, fmt.Errorf("read the lab's manifest: %w", err)
	}
	facts := plan.SpecFacts(v.Cluster, manifest, "")
	for i, f := range facts {
		for _, then := range e.facts {
			if f.What == "kOps version" && then.What == f.What && then.Subject == f.Subject {
				facts[i] = then
			}
		}
	}
	return facts, nil
}

// proven reports whether every new endpoint answers from one worker.
func (e *Executor) proven(ctx context.Context, v view) bool {
	workers := v.workers()
	if len(workers) == 0 {
		return false
	}
	gate, err := e.lab.Gate(v.Cluster, rehearse.Proven, workers[0].Name)
	if err != nil {
		return false
	}
	verdict, _ := gate.Check(ctx)
	return verdict == report.Pass
}

// view is an observation of the lab.
type view struct {
	labctl.Status
	declared lab.Declared
}

func (e *Executor) observe(ctx context.Context) (view, error) {
	status, err := e.lab.Status(ctx)
	if err != nil {
		return view{}, err
	}
	declared, err := e.lab.Declared(ctx)
	return view{status, declared}, err
}

func (v view) workers() []labctl.NodeStatus      { return v.withRole(identity.Worker) }
func (v view) controlPlane() []labctl.NodeStatus { return v.withRole(identity.ControlPlane) }

func (v view) withRole(role identity.Role) []labctl.NodeStatus {
	return slices.DeleteFunc(slices.Clone(v.Nodes), func(n labctl.NodeStatus) bool { return n.Role != string(role) })
}

// gossips reports whether the node runs a program that gossips.
func gossips(n labctl.NodeStatus) bool {
	for _, p := range n.Programs {
		if p.Gossip {
			return true
		}
	}
	return false
}

// state reduces the view to the planner's state. A lab's nodes keep their addresses,
// so its records are never stale.
func (v view) state() plan.State {
	d := v.declared
	s := plan.State{
		None: d.None, Agent: d.Agent, Quiet: d.Quiet, Held: true, Serves: true,
		Lookup: d.Lookup, PolicyBridge: d.Policy, Controller: d.Controller, Bridge: d.Bridge, Ports: d.Ports,
		Old: d.Before != nil,
	}
	if b := v.Balancer; b != nil {
		s.Network, s.API, s.Config = true, b.API, b.Discovery
	}
	for _, n := range v.controlPlane() {
		s.Serves = s.Serves && n.Serves
		switch {
		case !runs(n, lab.Program(v.API)):
			s.Away++
		case gossips(n):
			s.Members.GossipKnown++
		default:
			s.Members.QuietKnown++
		}
	}
	for _, n := range v.workers() {
		s.Live |= plan.Set(classOf(n.Born))
	}
	for _, t := range d.Templates {
		s.Templates |= plan.Set(classOf(t))
	}
	return s
}

// classes maps the lab's templates to the planner's classes, which have the same
// names.
var classes = map[lab.Template]plan.Class{
	lab.BornGossip: plan.Gossip, lab.BornUnresolved: plan.Unresolved,
	lab.BornHybrid: plan.Hybrid, lab.BornNone: plan.None, lab.BornList: plan.List,
}

func classOf(t lab.Template) plan.Class { return classes[t] }

func templateOf(c plan.Class) lab.Template { return lab.Template(c.String()) }
