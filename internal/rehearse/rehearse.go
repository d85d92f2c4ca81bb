// Package rehearse moves a cluster off gossip in the lab: with the operator's own
// spec, real processes, and the same steps and gates as on the real cluster, while
// a prober on every worker calls the API continuously. The result is evidence.
//
// A rehearsal passes only if every gate passed and every rule held from the first
// probe to the last. What could not be measured does not count as held.
package rehearse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

// Run rehearses one cluster. An error means that the rehearsal itself failed: bad
// input ([lab.UsageError]), an interrupt, or a lab that did not come up. A rehearsal
// that a gate stopped or that broke a rule is evidence with the verdict fail, and
// no error.
func Run(ctx context.Context, cfg Config) (report.Rehearsal, error) {
	r := &rehearsal{cfg: cfg}
	r.evidence = report.New(cfg.File, cfg.Cluster.Name, string(cfg.To))
	start := cfg.Start()
	r.evidence.From = string(start)
	r.evidence.API = cfg.API()
	if start != cluster.None {
		r.evidence.Overlay = string(cfg.Overlay)
	}
	r.evidence.Dir = cfg.Dir
	var err error
	if cfg.Fault != "" {
		if r.fault, err = r.plannedFault(); err != nil {
			return r.evidence, &lab.UsageError{Err: err}
		}
	}
	if r.plan, err = choosePlan(ctx, cfg); err != nil {
		return r.evidence, err
	}
	if r.evidence.Programs, err = inspectPrograms(cfg.Programs); err != nil {
		return r.evidence, err
	}
	began := time.Now()
	err = lab.Run(ctx, lab.Config{
		Cluster:  cfg.Cluster,
		Start:    start,
		Boots:    cfg.Boots,
		Overlay:  cfg.Overlay,
		Dir:      cfg.Dir,
		Programs: cfg.Programs,
		Netns:    cfg.Netns,
		Log:      cfg.Log,

		Kubernetes: cfg.Kubernetes,
	}, r.rehearseOn)
	r.evidence.Took = time.Since(began)
	return r.evidence, err
}

// choosePlan returns the plan to rehearse: the given one, or else the one found for
// the spec, via the lab.
func choosePlan(ctx context.Context, cfg Config) (plan.Plan, error) {
	switch {
	case cfg.Plan != nil:
		return *cfg.Plan, nil
	case cfg.Start() != cluster.Gossip:
		return plan.Plan{}, nil // nothing to do
	}
	ask := plan.Options{To: cfg.To, Via: plan.Lab, Endpoints: plan.Balancer}
	if cfg.Cluster.API.LoadBalancer == nil {
		ask.Endpoints = plan.Addresses
	}
	found, err := plan.Find(ctx, plan.FromSpec(cfg.Cluster, cluster.Release135, ask))
	if err != nil {
		return found, err
	}
	if found.Refused != nil {
		return found, fmt.Errorf("no plan to rehearse: %s", found.Refused.Why)
	}
	return found, nil
}

// rehearsal is one run.
type rehearsal struct {
	cfg      Config
	plan     plan.Plan
	lab      *lab.Lab
	fault    *injection
	evidence report.Rehearsal
	complete bool   // every step was carried out and every gate passed
	stopped  string // where and why it stopped, if it did
}

func (r *rehearsal) plannedFault() (*injection, error) {
	f, err := findFault(r.cfg.Fault)
	if err != nil {
		return nil, err
	}
	if f.kind == "load-balancer-gone" && r.cfg.Cluster.API.LoadBalancer == nil {
		return nil, fmt.Errorf("--fault %s: cluster %s has no load balancer", f.kind, r.cfg.Cluster.Name)
	}
	if f.kopsOnly && r.cfg.Boots == nil {
		return nil, fmt.Errorf("--fault %s: cluster %s: %w", f.kind, r.cfg.Cluster.Name, errNotKops)
	}
	return &injection{fault: f, report: report.Fault{Kind: f.kind, What: f.what}}, nil
}

// rehearseOn rehearses on a lab that is up.
func (r *rehearsal) rehearseOn(ctx context.Context, l *lab.Lab) error {
	r.lab = l
	layout := l.Layout()
	g := gates{world: l, cluster: r.cfg.Cluster.Name}
	p := planner{layout: layout, exec: l, start: r.cfg.Start(), bridge: l.Gossips()}
	if r.cfg.Boots != nil {
		g.kops, p.kops = l, l
	}
	p.gates = g
	if p.kops != nil {
		c := p.kopsState(r.plan)
		if err := l.Permit(c.lookup || c.policy); err != nil {
			return err
		}
	}
	steps := []step{p.verifyNone()}
	if len(r.plan.Steps) > 0 {
		steps = p.stepsFor(r.plan)
	}
	if err := r.recordStart(layout); err != nil {
		return err
	}
	r.cfg.Progress.Started(layout, len(steps), r.evidence.Procs)
	for _, line := range r.describeBoots() {
		r.cfg.Progress.Note(line)
	}

	watching, stopWatching := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(watching) })
	r.perform(ctx, steps)
	stopWatching()
	watch.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return r.conclude(layout)
}

// perform carries out the steps until one fails, and injects the fault, if there is
// one, during the action that injectionPoint returns.
func (r *rehearsal) perform(ctx context.Context, steps []step) {
	var injecting sync.WaitGroup
	defer injecting.Wait()
	at, within := r.injectionPoint(steps)
	for i, s := range steps {
		began := time.Now()
		r.cfg.Progress.Step(i+1, s.title)
		done := report.Step{Title: s.title, Why: s.why}
		for j, a := range s.actions {
			r.cfg.Progress.Acting(a.node, a.what)
			if r.fault != nil && i == at && j == within {
				r.fault.report.During = fmt.Sprintf("step %d: %s", i+1, s.title)
				r.fault.report.Target = r.fault.fault.target(r.lab.Layout(), a.node)
				injecting.Go(func() {
					if err := r.fault.run(ctx, r.lab, r.lab.Layout(), r.cfg.Progress.Note); err != nil {
						r.cfg.Progress.Note("fault: " + err.Error())
					}
				})
			}
			result, ok := a.perform(ctx)
			if ctx.Err() != nil {
				return // interrupted: a gate that has not passed yet has not failed
			}
			done.Actions = append(done.Actions, result)
			for _, g := range result.Gates {
				r.cfg.Progress.Gate(a.node, g)
			}
			if !ok {
				done.Took = time.Since(began)
				r.evidence.Steps = append(r.evidence.Steps, done)
				r.stopped = fmt.Sprintf("step %d, %s: %s", i+1, a.what, stopReason(result))
				r.cfg.Progress.Note("stopped at " + r.stopped)
				return
			}
		}
		done.Took = time.Since(began)
		r.evidence.Steps = append(r.evidence.Steps, done)
	}
	injecting.Wait()
	r.complete = true
}

func stopReason(a report.Action) string {
	if a.Error != "" {
		return a.Error
	}
	if len(a.Gates) == 0 {
		return "no gate was asked"
	}
	last := a.Gates[len(a.Gates)-1]
	return fmt.Sprintf("gate %q: %s: %s", last.Name, last.Verdict, last.Reason)
}

// injectionPoint returns the action during which to inject a fault: the first that
// moves a worker other than a canary, or else a canary.
func (r *rehearsal) injectionPoint(steps []step) (at, within int) {
	for i, s := range steps {
		for j, a := range s.actions {
			if a.moves {
				at, within = i, j
				if !a.canary {
					return at, within
				}
			}
		}
	}
	return at, within
}

// watch reports the probers' figures to Progress, twice a second.
func (r *rehearsal) watch(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.cfg.Progress.Watch(r.pulse())
		}
	}
}

func (r *rehearsal) pulse() Pulse {
	p := Pulse{Working: make(map[probe.Path]int)}
	for _, n := range r.lab.Layout().Workers() {
		p.Workers++
		o, err := r.lab.Observe(n.Name)
		if err != nil {
			continue // conclude reports it
		}
		for _, path := range o.Working {
			p.Working[path]++
		}
		for _, f := range o.Figures {
			p.Sent += f.Sent
			p.Failed += f.Failed
			p.Longest = max(p.Longest, f.Longest)
		}
	}
	return p
}

// recordStart records what runs and gossips at the start.
func (r *rehearsal) recordStart(layout lab.Layout) error {
	r.evidence.Nodes = len(layout.Nodes)
	if layout.LoadBalancer.IsValid() {
		r.evidence.Procs++
	}
	for _, n := range layout.Nodes {
		running, err := r.lab.Running(n.Name)
		if err != nil {
			return err
		}
		r.evidence.Procs += len(running)
	}
	for _, n := range layout.Workers() {
		gossip, err := gossipOn(r.lab, n.Name)
		if err != nil {
			return err
		}
		r.evidence.PerNode = append(r.evidence.PerNode, report.Worker{Name: n.Name, Group: n.Group, GossipBefore: gossip})
	}
	return nil
}

// conclude collects the figures and evaluates the rules.
func (r *rehearsal) conclude(layout lab.Layout) error {
	e := &r.evidence
	e.Workers = len(e.PerNode)
	var errs []error
	var failures []probe.Sample
	for i := range e.PerNode {
		w := &e.PerNode[i]
		o, err := r.lab.Observe(w.Name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w.Paths, w.Losses = o.Figures, o.Losses
		failures = append(failures, o.Failures...)
		if w.GossipAfter, err = gossipOn(r.lab, w.Name); err != nil {
			errs = append(errs, err)
		}
		if w.GossipAfter.Any() {
			e.Gossip++
		}
		if len(w.Losses) > 0 {
			e.Lost++
		}
		for _, f := range w.Paths {
			e.Probes.Sent += f.Sent
			e.Probes.Failed += f.Failed
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var gossiping []string
	for _, n := range layout.Nodes {
		g, err := gossipOn(r.lab, n.Name)
		if err != nil {
			return err
		}
		if g.Any() {
			gossiping = append(gossiping, n.Name)
		}
	}
	if r.fault != nil {
		e.Fault = &r.fault.report
	}
	e.Rules = r.judge(failures, gossiping)
	if !slices.ContainsFunc(e.Rules, func(rule report.Rule) bool { return !rule.Held }) {
		e.Verdict = report.Pass
	}
	return nil
}
