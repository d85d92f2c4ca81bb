package rehearse

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
)

// Kops changes what workers that are kOps nodes boot from, and replaces them.
type Kops interface {
	// SetTemplate sets the boot path of the next worker of a group.
	SetTemplate(group string, path cloud.BootPath)
	// Permit sets whether the workers' role allows what a gossiping one needs to boot.
	Permit(yes bool) error
	// RetireController removes dns-controller, which publishes the control plane's
	// names.
	RetireController(ctx context.Context) error
	// Replace replaces a worker by a new one from its group's template.
	Replace(ctx context.Context, node string) error
	// Boot returns what a worker's boot waits for; empty once it has joined.
	Boot(node string) (waits string, err error)
}

// pruneDelay is the time until kOps prunes an add-on: up to a minute on a cluster,
// shorter here.
const pruneDelay = 2 * time.Second

// bootPhrases describe the boot paths.
var bootPhrases = map[cloud.BootPath]string{
	cloud.BootGossip:    "to gossip",
	cloud.BootAddresses: "with the load balancer's addresses",
	cloud.BootName:      "with a name that nothing resolves",
}

// describeBoots describes how workers that are kOps nodes boot, one line a group.
func (r *rehearsal) describeBoots() (lines []string) {
	words := func(p cloud.BootPath) string { return cmp.Or(bootPhrases[p], "as the topology has it") }
	for _, g := range r.cfg.Cluster.Groups {
		if b, ok := r.cfg.Boots[g.Name]; ok {
			lines = append(lines, fmt.Sprintf("%s boots as kOps's nodeup has it: its workers were born %s, the next one is born %s", g.Name, words(b.Lives), words(b.Template)))
		}
	}
	return lines
}

// replace replaces a worker by a new one from its group's template.
func (p planner) replace(n lab.Node, canary bool) action {
	return action{
		node:  n.Name,
		what:  "replace it by one of its group's template",
		do:    func(ctx context.Context) error { return p.kops.Replace(ctx, n.Name) },
		gates: []reconcile.Gate{p.gates.joined(n), p.gates.pathsWork(n), p.gates.nodeReady(n)},

		moves:  true,
		canary: canary,
	}
}

// kopsState tracks, through a plan, the cluster-wide state that decides how kOps
// nodes boot: the spec and the workers' permissions.
type kopsState struct {
	planner
	problem plan.Problem
	none    bool // the spec asks for None
	lookup  bool // the workers' role allows what gossip needs
	policy  bool // a bridge policy does
}

// kopsState returns the state at the start of a plan. Of several possible starts it
// assumes the worst: an uncertain permission is not granted.
func (p planner) kopsState(pl plan.Plan) *kopsState {
	some := len(pl.Problem.Starts) > 0
	c := &kopsState{planner: p, problem: pl.Problem, lookup: some, policy: some}
	for _, s := range pl.Problem.Starts {
		c.none = c.none || s.State.None
		c.lookup = c.lookup && s.State.Lookup
		c.policy = c.policy && s.State.PolicyBridge
	}
	return c
}

// step returns how a plan's step is carried out on kOps nodes, with kOps's side
// effects; ok is false if the step is not specific to them.
func (c *kopsState) step(s plan.Planned) (out step, ok bool) {
	if c.kops == nil {
		return step{}, false
	}
	done := step{title: s.Title, why: s.Why}
	switch s.ID {
	case "set-none":
		c.none = true
		return step{}, false
	case "unset-none":
		c.none = false
		return step{}, false
	case "update-workers":
		done.actions = append(c.sideEffects(true), c.writeTemplates())
	case "update-workers-held":
		done.actions = append(c.sideEffects(false), c.writeTemplates())
	case "update-control-plane":
		if done.actions = c.sideEffects(true); len(done.actions) == 0 {
			return step{}, false
		}
	case "add-policy":
		c.policy = true
		done.actions = []action{c.permit("add the policy")}
	case "remove-policy":
		c.policy = false
		done.actions = []action{c.permit("take the policy away")}
	case "narrow":
		c.lookup = false
		done.actions = []action{c.permit("narrow the role")}
	case "remove-dns-controller":
		done.actions = []action{c.retireController(0)}
	default:
		return step{}, false
	}
	return done, true
}

// sideEffects returns what every update of kOps does, whatever it was told to
// update: its filter limits templates and nothing else. On AWS it narrows the
// workers' role at once, unless it is told not to; and once the spec asks for None,
// its add-ons no longer include dns-controller.
func (c *kopsState) sideEffects(narrows bool) (actions []action) {
	if c.problem.Via != plan.Kops {
		return nil
	}
	if narrows && c.lookup && c.problem.Cloud == cluster.AWS && c.rendered() != cloud.BootGossip {
		c.lookup = false
		actions = append(actions, c.permit("kOps narrows the workers' role"))
	}
	if c.none {
		actions = append(actions, c.retireController(pruneDelay))
	}
	return actions
}

// rendered returns what kOps would render into the workers' templates now: the
// addresses that it finds or, for None without any, a name.
func (c *kopsState) rendered() cloud.BootPath {
	switch {
	case c.layout.LoadBalancer.IsValid():
		return cloud.BootAddresses
	case c.none:
		return cloud.BootName
	default:
		return cloud.BootGossip
	}
}

func (c *kopsState) writeTemplates() action {
	groups, path := c.layout.Groups(identity.Worker), c.rendered()
	return action{
		what: fmt.Sprintf("write the templates of %s: boot with %s", strings.Join(groups, ", "), path),
		do: func(context.Context) error {
			for _, g := range groups {
				c.kops.SetTemplate(g, path)
			}
			return nil
		},
		gates: []reconcile.Gate{c.gates.healthy()},
	}
}

// permit applies the tracked permissions to the workers' role.
func (c *kopsState) permit(what string) action {
	yes := c.lookup || c.policy
	may := "may not"
	if yes {
		may = "may"
	}
	return action{
		what:  fmt.Sprintf("%s: a worker that gossips %s boot", what, may),
		do:    func(context.Context) error { return c.kops.Permit(yes) },
		gates: []reconcile.Gate{c.gates.healthy()},
	}
}

// retireController removes dns-controller after a delay.
func (c *kopsState) retireController(after time.Duration) action {
	return action{
		what: "dns-controller goes; nobody publishes the control plane's names",
		do: func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(after):
			}
			return c.kops.RetireController(ctx)
		},
		gates: []reconcile.Gate{c.gates.healthy()},
	}
}
