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

// Kops is what workers that are kOps's own boot from, and what replaces them.
type Kops interface {
	// SetTemplate changes what the next worker of a group is born with.
	SetTemplate(group string, path cloud.BootPath)
	// Permit says whether the workers' role allows what a gossiping one needs to boot.
	Permit(yes bool) error
	// RetireController takes away who publishes the control plane's names.
	RetireController(ctx context.Context) error
	// Replace puts a worker of the group's template in the place of one.
	Replace(ctx context.Context, node string) error
	// Boot returns what a worker's boot waits for; empty once it has joined.
	Boot(node string) (waits string, err error)
}

// pruneTime is how long kOps takes to delete an add-on that it no longer has: a
// minute on a cluster, shorter here.
const pruneTime = 2 * time.Second

// bootWords say what the ways to boot are.
var bootWords = map[cloud.BootPath]string{
	cloud.BootGossip:    "to gossip",
	cloud.BootAddresses: "with the load balancer's addresses",
	cloud.BootName:      "with a name that nothing resolves",
}

// boots says how workers boot, if they are kOps's.
func (r *rehearsal) boots() (lines []string) {
	words := func(p cloud.BootPath) string { return cmp.Or(bootWords[p], "as the topology has it") }
	for _, g := range r.cfg.Cluster.Groups {
		if b, ok := r.cfg.Boots[g.Name]; ok {
			lines = append(lines, fmt.Sprintf("%s boots as kOps's nodeup has it: its workers were born %s, the next one is born %s", g.Name, words(b.Lives), words(b.Template)))
		}
	}
	return lines
}

// replace puts a new worker, born from its group's template, in the place of one.
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

// A course is how far a plan has come in what decides about kOps's workers and is
// no node's: the spec, the role, the add-ons.
type course struct {
	planner
	problem plan.Problem
	none    bool // the spec asks for None
	lookup  bool // the workers' role allows what gossip needs
	policy  bool // a bridge policy does
}

// course begins where the plan does. Of several states that the cluster may be in
// it takes the worst: a permission that is not certain is none.
func (p planner) course(pl plan.Plan) *course {
	some := len(pl.Problem.Starts) > 0
	c := &course{planner: p, problem: pl.Problem, lookup: some, policy: some}
	for _, s := range pl.Problem.Starts {
		c.none = c.none || s.State.None
		c.lookup = c.lookup && s.State.Lookup
		c.policy = c.policy && s.State.PolicyBridge
	}
	return c
}

// step returns what carries a plan's step out on kOps's workers, with what kOps
// does beside it, if it is a step that concerns them and nothing else.
func (c *course) step(s plan.Planned) (step, bool) {
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
		done.actions = append(c.beside(true), c.templates())
	case "update-workers-held":
		done.actions = append(c.beside(false), c.templates())
	case "update-control-plane":
		if done.actions = c.beside(true); len(done.actions) == 0 {
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
		done.actions = []action{c.retire(0)}
	default:
		return step{}, false
	}
	return done, true
}

// beside is what every update of kOps does, whatever it was told to update: its
// filter limits templates and nothing else. On AWS it narrows the workers' role
// at once, unless it is told not to; and once the spec asks for None, its add-ons
// lose dns-controller.
func (c *course) beside(narrows bool) (actions []action) {
	if c.problem.Via != plan.Kops {
		return nil
	}
	if narrows && c.lookup && c.problem.Cloud == cluster.AWS && c.rendered() != cloud.BootGossip {
		c.lookup = false
		actions = append(actions, c.permit("kOps narrows the workers' role"))
	}
	if c.none {
		actions = append(actions, c.retire(pruneTime))
	}
	return actions
}

// rendered is what kOps writes into the workers' templates now: the addresses
// that it finds, and where it finds none a name.
func (c *course) rendered() cloud.BootPath {
	switch {
	case c.layout.LoadBalancer.IsValid():
		return cloud.BootAddresses
	case c.none:
		return cloud.BootName
	default:
		return cloud.BootGossip
	}
}

func (c *course) templates() action {
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

// permit makes the workers' role what it is by now.
func (c *course) permit(what string) action {
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

// retire takes dns-controller away, after a while.
func (c *course) retire(after time.Duration) action {
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
