// Package bykops carries out a plan on a cluster managed with kOps, using the
// operator's own kops binary, the cloud's API and the cluster's API.
//
// kOps renders: templates, node configurations, roles and add-ons change only
// through `kops update`, with the flags that the plan shows. On AWS this package does
// the rest itself, instance by instance: it drains and replaces nodes and checks that
// the new ones joined by the new path. On other clouds `kops rolling-update` replaces
// whole groups.
//
// It does not decide the order of steps: the plan does, and package reconcile follows
// it.
//
// # Invariants
//
//   - No old node is drained before its group has as many other Ready nodes as the
//     spec's rollingUpdate requires.
//   - A new node counts only when its Node is Ready, its instance is of the new
//     generation, and its template does not boot through gossip.
//   - What an earlier run left half done (an instance detached, a node cordoned, a
//     bridge up) is read from the cloud, the cluster or the store, never from memory
//     alone.
//   - kops is started directly, never through a shell, and secrets are redacted from
//     its output.
package bykops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/drain"
	"github.com/muster-dev/muster/internal/observe"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/store"
)

// Machines replaces instances. Its methods are idempotent.
type Machines interface {
	// Detach takes an instance out of its group, which then starts another.
	Detach(ctx context.Context, id string) error
	// UndoSurge removes instances that did not join and reattaches old ones.
	UndoSurge(ctx context.Context, group string, old, remove []string) error
	// Deregister returns when no load balancer sends to the instance.
	Deregister(ctx context.Context, id string) error
	// Register undoes a Deregister.
	Register(ctx context.Context, id string) error
	// Terminate terminates an instance; its group, if it has one, starts another.
	Terminate(ctx context.Context, id string) error
	// Console returns the end of the instance's console output.
	Console(ctx context.Context, id string) (string, error)
}

// Infrastructure changes everything but instances. Its methods are idempotent.
type Infrastructure interface {
	Expose(ctx context.Context, balancer string) error
	PutPolicy(ctx context.Context, role, name, document string) error
	DeletePolicy(ctx context.Context, role, name string) error
	ClosePorts(ctx context.Context, ports []int) (closed []string, err error)
	DropVersions(ctx context.Context, template, keep string) (dropped int, err error)
	DeleteClassic(ctx context.Context, name string) error
}

// Config configures an executor.
type Config struct {
	// Problem is the plan's. Required.
	Problem plan.Problem
	// Store is the cluster's state store. Required.
	Store store.Store
	// Provider observes the cloud. Required.
	Provider cloud.Provider
	// Kube is the cluster's API. Required for every step that touches nodes.
	Kube kubernetes.Interface
	// Kops runs the operator's binary. If nil, no leg begins that needs it, and
	// NoKops says why there is none.
	Kops   *Kops
	NoKops error
	// Before runs the kOps that created the cluster. If nil, no leg begins that
	// restores what it rendered.
	Before *Kops
	// Machines and Infrastructure change AWS. Both nil on other clouds, where kOps
	// replaces whole groups.
	Machines       Machines
	Infrastructure Infrastructure
	// Overlay holds records in the cluster's gossip. If nil, plans with a bridge
	// cannot be carried out.
	Overlay Overlay

	// JoinWithin bounds the time from a new node's start until it is Ready. Default
	// 5 minutes. If too short, a slow image stops the run; if too long, a broken
	// template is noticed late.
	JoinWithin time.Duration
	// DrainWithin bounds one drain. Default 15 minutes, as in kOps.
	DrainWithin time.Duration
	// Poll is the interval between observations. Default 5 seconds.
	Poll time.Duration
}

func (c Config) validate() error {
	var faults []error
	need := func(ok bool, what string) {
		if !ok {
			faults = append(faults, errors.New(what))
		}
	}
	need(c.Problem.Cluster != "", "no plan")
	need(c.Store != nil, "no state store")
	need(c.Provider != nil, "no cloud")
	need(c.Problem.Endpoints != plan.Addresses, "kOps has no list of control-plane addresses to give workers, and puts no muster on nodes; make the plan --via terraform, whose steps your own pipeline carries out while muster waits, or with --endpoints load-balancer")
	need((c.Machines == nil) == (c.Infrastructure == nil), "half of what changes AWS")
	return errors.Join(faults...)
}

// Executor carries out a plan. It implements [reconcile.Keeper].
type Executor struct {
	Config
	bridge bridge

	mu        sync.Mutex      // guards what follows
	completed map[string]bool // steps whose kops run succeeded in this process, which nothing else shows
	back      bool            // the last of them belonged to a rollback
}

var (
	_ reconcile.Keeper           = (*Executor)(nil)
	_ reconcile.PreflightChecker = (*Executor)(nil)
)

// New returns an executor. It calls nothing.
func New(c Config) (*Executor, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("carry out by kops: %w", err)
	}
	c.JoinWithin = cmp.Or(c.JoinWithin, 5*time.Minute)
	c.DrainWithin = cmp.Or(c.DrainWithin, 15*time.Minute)
	c.Poll = cmp.Or(c.Poll, 5*time.Second)
	return &Executor{Config: c, bridge: newBridge(), completed: map[string]bool{}}, nil
}

// lookTimeout bounds one observation of the cluster.
const lookTimeout = 3 * time.Minute

// observe observes the cluster. Our own policy, which is a bridge and not among the
// facts that a plan was made from, is removed from the observation; bridged reports
// that it was there.
func (e *Executor) observe(ctx context.Context) (seen *observe.Cluster, bridged bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if seen, err = observe.Stored(ctx, e.Store, e.Problem.Cluster); err != nil {
		return nil, false, err
	}
	if err = seen.Look(ctx, e.Provider); err != nil {
		return nil, false, err
	}
	if ctx.Err() != nil {
		// An observation cut off by a deadline is incomplete.
		return nil, false, fmt.Errorf("look at %s: %w", e.Problem.Cluster, ctx.Err())
	}
	if seen.Cloud == nil {
		return nil, false, fmt.Errorf("look at the machines of %s: %s", e.Problem.Cluster, seen.Blind)
	}
	for _, r := range seen.Cloud.Roles {
		if _, has := r.Policies[e.policyName()]; has {
			delete(r.Policies, e.policyName())
			bridged = true
		}
	}
	return seen, bridged, nil
}

// ask returns the question that the plan answered, so that the current observation is
// described in the same terms.
func (e *Executor) ask() plan.Options {
	p := e.Problem
	return plan.Options{To: p.To, Via: p.Via, Endpoints: p.Endpoints, NoBridge: p.NoBridge, CreateBalancer: p.CreateBalancer, MaxAway: p.MaxAway}
}

// Look implements [reconcile.Executor].
func (e *Executor) Look(ctx context.Context) (reconcile.World, error) {
	seen, bridged, err := e.observe(ctx)
	if err != nil {
		return reconcile.World{}, err
	}
	p, facts, err := seen.Problem(e.ask())
	if err != nil {
		return reconcile.World{}, err
	}
	proven, err := e.proven(ctx, seen)
	if err != nil {
		return reconcile.World{}, err
	}
	held, err := e.readBridge(ctx)
	if err != nil {
		return reconcile.World{}, err
	}
	w := reconcile.World{Facts: facts, Nodes: reconcile.Living(seen.Cloud.Groups)}
	for _, s := range p.Starts {
		s.State.PolicyBridge = bridged
		s.State.Proven = proven && s.State.API && s.State.Config
		s.State.Bridge = len(held.Names) > 0
		w.States = append(w.States, s.State)
	}
	return w, nil
}

// Actions implements [reconcile.Executor].
func (e *Executor) Actions(ctx context.Context, s plan.Planned) ([]reconcile.Action, error) {
	layOut, ok := e.steps()[s.ID]
	if !ok {
		return nil, fmt.Errorf("step %s: no executor by kops carries it out", s.ID)
	}
	seen, bridged, err := e.observe(ctx)
	if err != nil {
		return nil, err
	}
	actions, err := layOut(ctx, world{Cluster: seen, bridged: bridged}, s)
	if err != nil {
		return actions, fmt.Errorf("step %s: %w", s.ID, err)
	}
	return actions, nil
}

// world is an observation from which a step's actions are derived.
type world struct {
	*observe.Cluster
	bridged bool // our policy is in the workers' role
	begun   bool // include actions already done, whose gates are to be checked
}

type layout func(context.Context, world, plan.Planned) ([]reconcile.Action, error)

// steps maps the steps that this executor carries out to their layouts.
func (e *Executor) steps() map[string]layout {
	return map[string]layout{
		"set-none":              e.setTopology(true),
		"unset-none":            e.setTopology(false),
		"make-balancer":         e.makeBalancer,
		"expose":                e.expose,
		"prove":                 e.prove,
		"publish":               e.publish,
		"withdraw":              e.withdraw,
		"add-policy":            e.addPolicy,
		"remove-policy":         e.removePolicy,
		"update-workers":        e.updateWorkers,
		"update-workers-held":   e.updateWorkers,
		"update-control-plane":  e.updateControlPlane,
		"canary":                e.canary,
		"roll-workers":          e.rollWorkers,
		"roll-control-plane":    e.rollControlPlane,
		"restore-workers":       e.restore(cluster.RoleNode),
		"restore-control-plane": e.restore(cluster.RoleControlPlane),
		"remove-dns-controller": e.removeController,
		"narrow":                e.narrow,
		"close-ports":           e.closePorts,
		"drop-classic":          e.dropClassic,
		"scrub":                 e.scrub,
	}
}

// Lacks implements [reconcile.PreflightChecker].
func (e *Executor) Lacks(steps []plan.Planned) (what []string) {
	uses := func(ids ...string) bool {
		return slices.ContainsFunc(steps, func(s plan.Planned) bool { return slices.Contains(ids, s.ID) })
	}
	renders := []string{"update-workers", "update-workers-held", "update-control-plane", "narrow"}
	if e.Machines == nil {
		renders = append(renders, "canary", "roll-workers", "roll-control-plane")
	}
	if e.Kops == nil && uses(renders...) {
		what = append(what, e.noKops().Error())
	}
	if e.Before == nil && uses("restore-workers", "restore-control-plane") {
		what = append(what, errNoBefore.Error())
	}
	return what
}

// noKops returns the error for a missing kops binary.
func (e *Executor) noKops() error {
	return cmp.Or(e.NoKops, errors.New("no kops binary was named; give it with --kops or $KOPS"))
}

// errNoBefore reports that [Config.Before] is needed.
var errNoBefore = errors.New("the way back needs the kOps that made the cluster; name its binary with --kops-before")

// groups returns the observed groups of a role sorted by name, as kOps does.
func (w world) groups(role cluster.Role) (all []cloud.Group) {
	for _, g := range w.Cloud.Groups {
		if g.Role == role {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b cloud.Group) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// balancer returns the network load balancer in front of the API.
func (w world) balancer() (cloud.LoadBalancer, bool) {
	for _, lb := range w.Cloud.LoadBalancers {
		if lb.Class != "classic" {
			return lb, true
		}
	}
	return cloud.LoadBalancer{}, false
}

// wait polls until look reports nothing pending, or ctx ends. Errors of look are
// retried: API servers are unavailable at times, above all while they are replaced.
func (e *Executor) wait(ctx context.Context, what string, look func(context.Context) (pending string, err error)) error {
	last := "nothing was seen yet"
	for {
		pending, err := look(ctx)
		switch {
		case err == nil && pending == "":
			return nil
		case err == nil:
			last = pending
		case ctx.Err() == nil:
			last = oneLine(err.Error())
		}
		select {
		case <-time.After(e.Poll):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s: not within the time given: %s", what, last)
			}
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
}

// drain drains a node. Errors are retried within DrainWithin, except blocked pods,
// which are a definite result.
func (e *Executor) drain(ctx context.Context, node string, say func(string)) error {
	began := time.Now()
	for {
		left := e.DrainWithin - time.Since(began)
		err := drain.Node(ctx, drain.Config{Client: e.Kube, Timeout: max(left, time.Second), RetryInterval: e.Poll}, node, say)
		var blocked *drain.BlockedError
		if err == nil || ctx.Err() != nil || left <= 0 || errors.As(err, &blocked) && len(blocked.Pods) > 0 {
			return err
		}
		say("trying again: " + oneLine(err.Error()))
		select {
		case <-time.After(e.Poll):
		case <-ctx.Done():
		}
	}
}

func (e *Executor) done(step string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.completed[step]
}

// markDone records that a step's kops run succeeded. A step of a rollback invalidates
// those done forward, and vice versa.
func (e *Executor) markDone(s plan.Planned) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.Back != e.back {
		clear(e.completed)
	}
	e.completed[s.ID], e.back = true, s.Back
}
