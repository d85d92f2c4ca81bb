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

// Actions lays a step out for the lab as it is.
func (e *Executor) Actions(ctx context.Context, s plan.Planned) ([]reconcile.Action, error) {
	v, err := e.see(ctx)
	if err != nil {
		return nil, err
	}
	l := layer{Executor: e, view: v, back: s.Back}
	lay, ok := map[string]func(){
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
		"update-control-plane":  func() { l.declare(s, func(d *lab.Declared) { keep(d); d.Quiet = d.None }) },
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
	lay()
	return l.actions, l.err
}

// layer collects the actions of one step.
type layer struct {
	*Executor
	view
	back    bool // it leads to what was declared before
	actions []reconcile.Action
	err     error
}

// add takes an action in, with the gates that belong to it.
func (l *layer) add(a reconcile.Action) {
	var err error
	if a.Gates, err = l.gates(a.ID); err != nil {
		l.err = cmp.Or(l.err, err)
	}
	a.Limit = cmp.Or(a.Limit, 2*time.Minute)
	l.actions = append(l.actions, a)
}

// operate is the Do of an action that tells the lab one thing.
func (l *layer) operate(o labctl.Operation, group, node string) func(context.Context, func(string)) error {
	return func(ctx context.Context, _ func(string)) error { return l.lab.Operate(ctx, o, group, node) }
}

// declare lays out a step that changes what the lab keeps a note of.
func (l *layer) declare(s plan.Planned, change func(*lab.Declared)) {
	after := copyOf(l.declared)
	change(&after)
	if same(after, l.declared) {
		return
	}
	a := reconcile.Action{ID: s.ID, What: s.Title, Do: func(ctx context.Context, _ func(string)) error {
		return l.lab.Declare(ctx, change)
	}}
	l.add(a)
}

func (l *layer) serve() {
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

func (l *layer) expose() {
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

func (l *layer) prove() {
	for _, n := range l.workers() {
		l.add(reconcile.Action{
			ID: "prove " + n.Name, What: "call every new endpoint, each by itself", Group: n.Group, Node: n.Name,
		})
	}
}

// bridge puts the load balancer into the overlay's records, or takes it out. Into
// Muster's own overlay only control-plane nodes can write, and there is nothing to
// do but look.
func (l *layer) bridge(up bool) {
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

// keep keeps what is declared now as the version of before, unless an earlier one
// is kept: that is the one to go back to.
func keep(d *lab.Declared) {
	if d.Before == nil {
		before := copyOf(*d)
		before.Before = nil
		d.Before = &before
	}
}

func (l *layer) updateWorkers(s plan.Planned) {
	template := templateOf(l.problem.Renders(l.state()))
	l.declare(s, func(d *lab.Declared) {
		keep(d)
		for g := range d.Templates {
			d.Templates[g] = template
		}
	})
}

// restore lays out a step back to what was declared before.
func (l *layer) restore(s plan.Planned, change func(d *lab.Declared, before lab.Declared)) {
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

// canaries replaces one worker of each group that has none of its template yet.
func (l *layer) canaries() {
	for _, group := range l.groups() {
		old := l.outdated(group)
		if len(old) > 0 && !slices.ContainsFunc(l.workers(), func(n labctl.NodeStatus) bool {
			return n.Group == group && n.Born == l.template(group) && !l.succeeds(n.Name, old)
		}) {
			l.replace(old[0], true)
		}
	}
}

// succeeds reports whether a worker is the successor of one that has not gone yet.
func (l *layer) succeeds(name string, old []labctl.NodeStatus) bool {
	return slices.ContainsFunc(old, func(n labctl.NodeStatus) bool { return successor(n.Name) == name })
}

func (l *layer) rollWorkers() {
	for _, group := range l.groups() {
		for _, n := range l.outdated(group) {
			l.replace(n, false)
		}
	}
}

func (l *layer) groups() []string { return slices.Sorted(maps.Keys(l.declared.Templates)) }

// template is what the workers of a group are to be: on a way back, also before it
// was restored, what it was.
func (l *layer) template(group string) lab.Template {
	if before := l.declared.Before; l.back && before != nil {
		return before.Templates[group]
	}
	return l.declared.Templates[group]
}

// finds says of a template how what is born from it finds the API.
var finds = map[lab.Template]string{
	lab.BornGossip:     "that gossips",
	lab.BornUnresolved: "that knows no address, and so never joins,",
	lab.BornHybrid:     "that asks the load balancer",
	lab.BornNone:       "that asks the load balancer",
	lab.BornList:       "that has the control plane's addresses",
}

// outdated returns the workers of a group that are not what its template is to make.
func (l *layer) outdated(group string) []labctl.NodeStatus {
	return slices.DeleteFunc(l.workers(), func(n labctl.NodeStatus) bool {
		return n.Group != group || n.Born == l.template(group)
	})
}

// replace lays out how a new machine joins and, once it has, an old one goes.
func (l *layer) replace(old labctl.NodeStatus, canary bool) {
	name := successor(old.Name)
	if !l.booted(name) {
		l.add(reconcile.Action{
			ID: "join " + name, What: fmt.Sprintf("a new worker %s joins in the place of %s", finds[l.template(old.Group)], old.Name),
			Group: old.Group, Node: name, Canary: canary,
			Do: l.operate(labctl.AddWorker, old.Group, name), Abort: l.takeAway(name),
		})
	}
	l.add(reconcile.Action{
		ID: "leave " + old.Name, What: "shut it down and remove it", Group: old.Group, Node: old.Name, Canary: canary, Replaces: 1,
		Do: l.operate(labctl.RemoveWorker, "", old.Name),
	})
}

// booted reports whether a worker is there and has come to the end of its boot.
// Whether it joined is for its gates to say; see [Executor.Verify].
func (v view) booted(name string) bool {
	return slices.ContainsFunc(v.Nodes, func(n labctl.NodeStatus) bool {
		return n.Name == name && runs(n, lab.Kubelet)
	})
}

// takeAway is the Abort of a machine that did not join: it goes, and the ends of
// its logs say why.
func (l *layer) takeAway(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		tail, err := l.lab.Tail(ctx, name)
		if err != nil {
			tail = "its logs could not be read: " + err.Error()
		}
		return tail, l.lab.Operate(ctx, labctl.RemoveWorker, "", name)
	}
}

// generation is how the names of machines end that took the place of others.
var generation = regexp.MustCompile(`^(.*)-g([0-9]+)$`)

// successor is the name of the machine that takes a worker's place. It follows
// from the worker's, so that a run that was killed finds what it began.
func successor(name string) string {
	if m := generation.FindStringSubmatch(name); m != nil {
		if g, err := strconv.Atoi(m[2]); err == nil {
			return fmt.Sprintf("%s-g%d", m[1], g+1)
		}
	}
	return name + "-g2"
}

// rollControlPlane exchanges the node programs, one node at a time.
func (l *layer) rollControlPlane() {
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

func copyOf(d lab.Declared) lab.Declared {
	d.Templates = maps.Clone(d.Templates)
	return d
}

// same reports whether two declarations say the same, what they were before aside.
func same(a, b lab.Declared) bool {
	if (a.Before == nil) != (b.Before == nil) || !maps.Equal(a.Templates, b.Templates) {
		return false
	}
	a.Before, b.Before, a.Templates, b.Templates = nil, nil, nil, nil
	return fmt.Sprint(a) == fmt.Sprint(b)
}
