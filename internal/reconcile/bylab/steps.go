package bylab

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
)

// Actions implements [reconcile.Executor].
func (e *Executor) Actions(ctx context.Context, s plan.Planned) ([]reconcile.Action, error) {
	v, err := e.observe(ctx)
	if err != nil {
		return nil, err
	}
	l := layout{Executor: e, view: v, back: s.Back}
	add, ok := map[string]func(){
		"serve":                 l.serve,
		"expose":                l.expose,
		"prove":                 l.prove,
		"publish":               func() { l.bridge(true) },
		"withdraw":              func() { l.bridge(false) },
		"add-policy":            func() { l.declare(s, func(d *lab.Declared) { d.Policy = true }) },
		"remove-policy":         func() { l.declare(s, func(d *lab.Declared) { d.Policy = false }) },
		"add-agent":             func() { l.declare(s, func(d *lab.Declared) { d.Agent = true }) },
		"remove-agent":          func() { l.declare(s, func(d *lab.Declared) { d.Agent = false }) },
		"set-none":              func() { l.declare(s, func(d *lab.Declared) { d.None = true }) },
		"unset-none":            func() { l.declare(s, func(d *lab.Declared) { d.None = false }) },
		"update-workers":        func() { l.updateWorkers(s) },
		"update-control-plane":  func() { l.declare(s, func(d *lab.Declared) { saveBefore(d); d.Quiet = d.None }) },
		"restore-workers":       func() { l.restore(s, restoreWorkers) },
		"restore-control-plane": func() { l.restore(s, restoreControlPlane) },
		"canary":                l.canaries,
		"roll-workers":          l.rollWorkers,
		"roll-control-plane":    l.rollControlPlane,
		"remove-dns-controller": func() { l.declare(s, func(d *lab.Declared) { d.Controller = false }) },
		"narrow":                func() { l.declare(s, func(d *lab.Declared) { d.Lookup = false }) },
		"close-ports":           func() { l.declare(s, func(d *lab.Declared) { d.Ports = false }) },
		"scrub":                 func() { l.declare(s, func(d *lab.Declared) { d.Before = nil }) },
	}[s.ID]
	if !ok {
		return nil, fmt.Errorf("a lab cannot carry out step %s (%s): it has what its manifest says, and nothing else", s.ID, s.Title)
	}
	add()
	return l.actions, l.err
}

// layout collects the actions of one step.
type layout struct {
	*Executor
	view
	back    bool // the step belongs to a rollback
	actions []reconcile.Action
	err     error
}

// add appends an action with its gates.
func (l *layout) add(a reconcile.Action) {
	var err error
	if a.Gates, err = l.gates(a.ID); err != nil {
		l.err = cmp.Or(l.err, err)
	}
	a.Limit = cmp.Or(a.Limit, 2*time.Minute)
	l.actions = append(l.actions, a)
}

// operate returns the Do of an action that is one operation of the lab.
func (l *layout) operate(o labctl.Operation, group, node string) func(context.Context, func(string)) error {
	return func(ctx context.Context, _ func(string)) error { return l.lab.Operate(ctx, o, group, node) }
}

// declare adds an action that changes what the lab declares, unless it would change
// nothing.
func (l *layout) declare(s plan.Planned, change func(*lab.Declared)) {
	after := clone(l.declared)
	change(&after)
	if equalDeclared(after, l.declared) {
		return
	}
	a := reconcile.Action{ID: s.ID, What: s.Title, Do: func(ctx context.Context, _ func(string)) error {
		return l.lab.Declare(ctx, change)
	}}
	l.add(a)
}

func (l *layout) serve() {
	for _, n := range l.controlPlane() {
		if n.Serves {
			continue
		}
		l.add(reconcile.Action{
			ID: "serve " + n.Name, What: "serve enrolment and endpoints", Group: n.Group, Node: n.Name,
			Do: l.operate(labctl.ServeDiscovery, "", n.Name),
		})
	}
}

func (l *layout) expose() {
	l.serve() // a lab's control plane serves workers once it is told to
	if l.Balancer == nil {
		l.err = cmp.Or(l.err, fmt.Errorf("the lab of %s has no load balancer to expose anything on", l.Cluster))
		return
	}
	if l.Balancer.Discovery {
		return
	}
	l.add(reconcile.Action{
		ID: "expose", What: "put the worker-facing service on the load balancer", Do: l.operate(labctl.ExposeDiscovery, "", ""),
	})
}

func (l *layout) prove() {
	for _, n := range l.workers() {
		l.add(reconcile.Action{
			ID: "prove " + n.Name, What: "call every new endpoint, each by itself", Group: n.Group, Node: n.Name,
		})
	}
}

// bridge adds the load balancer to the overlay's records, or removes it. Muster's own
// overlay accepts writes from control-plane nodes only, so there the action just
// checks.
func (l *layout) bridge(up bool) {
	a := reconcile.Action{
		ID: "publish", What: "write the load balancer into the records, as a leaf", Do: l.operate(labctl.PublishBalancer, "", ""),
	}
	if !up {
		a = reconcile.Action{
			ID: "withdraw", What: "write the records without the load balancer", Do: l.operate(labctl.WithdrawBalancer, "", ""),
		}
	}
	if l.declared.Bridge == up {
		return
	}
	if !l.bridges() {
		a.What = "no leaf can write into this overlay; look that everybody has a way"
		a.Do = func(ctx context.Context, _ func(string)) error {
			return l.lab.Declare(ctx, func(d *lab.Declared) { d.Bridge = up })
		}
	}
	l.add(a)
}

// bridges reports whether a bridge can be put up.
func (v view) bridges() bool { return v.Bridges && v.Balancer != nil }

// saveBefore saves the current declaration to return to, unless one is saved already.
func saveBefore(d *lab.Declared) {
	if d.Before == nil {
		before := clone(*d)
		before.Before = nil
		d.Before = &before
	}
}

func (l *layout) updateWorkers(s plan.Planned) {
	template := templateOf(l.problem.Renders(l.state()))
	l.declare(s, func(d *lab.Declared) {
		saveBefore(d)
		for g := range d.Templates {
			d.Templates[g] = template
		}
	})
}

// restore adds an action that restores part of the saved declaration.
func (l *layout) restore(s plan.Planned, change func(d *lab.Declared, before lab.Declared)) {
	if l.declared.Before == nil {
		return // nothing was updated
	}
	l.declare(s, func(d *lab.Declared) {
		if d.Before != nil {
			change(d, *d.Before)
		}
	})
}

func restoreWorkers(d *lab.Declared, before lab.Declared) {
	d.Templates = maps.Clone(before.Templates)
	d.Lookup, d.Controller = before.Lookup, before.Controller
}

func restoreControlPlane(d *lab.Declared, before lab.Declared) {
	d.Quiet, d.Lookup, d.Controller = before.Quiet, before.Lookup, before.Controller
}

// canaries replaces one worker in each group that has none of its template yet.
func (l *layout) canaries() {
	for _, group := range l.groups() {
		old := l.outdated(group)
		if len(old) > 0 && !slices.ContainsFunc(l.workers(), func(n labctl.NodeStatus) bool {
			return n.Group == group && n.Born == l.template(group) && !l.isSuccessor(n.Name, old)
		}) {
			l.replace(old[0], true)
		}
	}
}

// isSuccessor reports whether a worker replaces one that has not left yet.
func (l *layout) isSuccessor(name string, old []labctl.NodeStatus) bool {
	return slices.ContainsFunc(old, func(n labctl.NodeStatus) bool { return successor(n.Name) == name })
}

func (l *layout) rollWorkers() {
	for _, group := range l.groups() {
		for _, n := range l.outdated(group) {
			l.replace(n, false)
		}
	}
}

func (l *layout) groups() []string { return slices.Sorted(maps.Keys(l.declared.Templates)) }

// template returns the template that a group's workers are to have. On a rollback it is
// the saved one, even before that is restored.
func (l *layout) template(group string) lab.Template {
	if before := l.declared.Before; l.back && before != nil {
		return before.Templates[group]
	}
	return l.declared.Templates[group]
}

// joinsBy describes, by template, how a worker finds the API.
var joinsBy = map[lab.Template]string{
	lab.BornGossip:     "that gossips",
	lab.BornUnresolved: "that knows no address, and so never joins,",
	lab.BornHybrid:     "that asks the load balancer",
	lab.BornNone:       "that asks the load balancer",
	lab.BornList:       "that has the control plane's addresses",
}

// outdated returns the workers of a group that are not of its template.
func (l *layout) outdated(group string) []labctl.NodeStatus {
	return slices.DeleteFunc(l.workers(), func(n labctl.NodeStatus) bool {
		return n.Group != group || n.Born == l.template(group)
	})
}

// replace adds the join of a new machine and then the removal of an old one.
func (l *layout) replace(old labctl.NodeStatus, canary bool) {
	name := successor(old.Name)
	if !l.hasBooted(name) {
		l.add(reconcile.Action{
			ID: "join " + name, What: fmt.Sprintf("a new worker %s joins in the place of %s", joinsBy[l.template(old.Group)], old.Name),
			Group: old.Group, Node: name, Canary: canary,
			Do: l.operate(labctl.AddWorker, old.Group, name), Abort: l.removeUnjoined(name),
		})
	}
	l.add(reconcile.Action{
		ID: "leave " + old.Name, What: "shut it down and remove it", Group: old.Group, Node: old.Name, Canary: canary, Replaces: 1,
		Do: l.operate(labctl.RemoveWorker, "", old.Name),
	})
}

// hasBooted reports whether a worker exists and has completed its boot. Whether it
// joined is for its gates to say; see [Executor.Verify].
func (v view) hasBooted(name string) bool {
	return slices.ContainsFunc(v.Nodes, func(n labctl.NodeStatus) bool {
		return n.Name == name && runs(n, lab.Kubelet)
	})
}

// removeUnjoined returns the Abort of a machine that did not join: it returns the ends
// of its logs as evidence and removes it.
func (l *layout) removeUnjoined(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		tail, err := l.lab.Tail(ctx, name)
		if err != nil {
			tail = "its logs could not be read: " + err.Error()
		}
		return tail, l.lab.Operate(ctx, labctl.RemoveWorker, "", name)
	}
}

// generationSuffix matches the names of machines that replaced others.
var generationSuffix = regexp.MustCompile(`^(.*)-g([0-9]+)$`)

// successor returns the name of the machine that replaces a worker. It is derived from
// the worker's name, so that a run resumed after a crash finds it.
func successor(name string) string {
	if m := generationSuffix.FindStringSubmatch(name); m != nil {
		if g, err := strconv.Atoi(m[2]); err == nil {
			return fmt.Sprintf("%s-g%d", m[1], g+1)
		}
	}
	return name + "-g2"
}

// rollControlPlane exchanges node programs, one node at a time.
func (l *layout) rollControlPlane() {
	for _, n := range l.controlPlane() {
		a := reconcile.Action{ID: "replace " + n.Name, Group: n.Group, Node: n.Name, Replaces: 1}
		switch {
		case l.declared.Quiet && (gossips(n) || !runs(n, lab.Agent)):
			a.What, a.Do = "replace muster-peer by muster-agent", l.operate(labctl.LeaveGossip, "", n.Name)
			l.add(a)
		case !l.declared.Quiet && !gossips(n):
			a.What, a.Do = "put muster-peer back", l.operate(labctl.JoinGossip, "", n.Name)
			l.add(a)
		}
	}
}

// runs reports whether a program runs on the node.
func runs(n labctl.NodeStatus, p lab.Program) bool {
	_, up := n.Programs[p]
	return up
}

func clone(d lab.Declared) lab.Declared {
	d.Templates = maps.Clone(d.Templates)
	return d
}

// equalDeclared compares two declarations; of Before only whether it is set.
func equalDeclared(a, b lab.Declared) bool {
	if (a.Before == nil) != (b.Before == nil) || !maps.Equal(a.Templates, b.Templates) {
		return false
	}
	a.Before, b.Before, a.Templates, b.Templates = nil, nil, nil, nil
	return fmt.Sprint(a) == fmt.Sprint(b)
}
