package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The known hazards of kOps's documented way, each as its shortest story.
func TestHazardsOfTheDocumentedWay(t *testing.T) {
	gossip, bare := gossiping(3, 20), withoutBalancer(3, 20)
	for name, test := range map[string]struct {
		problem *Problem
		steps   []Step
		want    Violation
	}{
		"the first reconcile takes the workers' permissions before it replaces them": {
			problem: gossip,
			steps:   gossip.kopsReconcile(),
			want: Violation{Invariant: "boot", Class: "gossip", Step: 1, Story: []string{
				"kOps narrows nodes.atlas.k8s.local at once",
				"a gossip worker of nodes-a reboots: its role may no longer list instances and read the state store, so it finds no seed -> it never joins",
			}},
		},
		"None set while workers gossip prunes dns-controller under them": {
			problem: gossip,
			steps:   append([]Step{gossip.setTopology()}, gossip.kopsReconcile()...),
			want: Violation{Invariant: "publisher", Class: "gossip", Step: 2, Story: []string{
				"step 1 is done: set spec.topology.dns.type to None",
				"kOps narrows nodes.atlas.k8s.local at once",
				"kOps puts port 3988 on the load balancer",
				"kOps changes its add-ons: dns-controller is to go",
				"within a minute kOps removes dns-controller",
				"nobody publishes the API's names any more, and a gossip worker of nodes-a still takes them from the overlay -> the next control-plane node that is replaced leaves it with an address that leads nowhere",
			}},
		},
		"an empty endpoint list makes templates that cannot join": {
			problem: bare,
			steps:   []Step{bare.setTopology(), bare.kopsUpdate(true)},
			want: Violation{Invariant: "boot", Class: "unresolved", Step: 2, Story: []string{
				"step 1 is done: set spec.topology.dns.type to None",
				"kOps narrows nodes.atlas.k8s.local at once",
				"kOps changes its add-ons: dns-controller is to go",
				"the control plane's templates no longer gossip",
				"the first group's template is now unresolved",
				"the autoscaler adds a worker from a template without any address: it asks for its configuration under a name that nothing resolves -> it never joins",
			}},
		},
		"the control plane first, when the way changes": {
			problem: with(gossiping(3, 20), func(p *Problem) { p.Via = Lab }),
			steps: func() []Step {
				p := with(gossiping(3, 20), func(p *Problem) { p.Via = Lab })
				return []Step{p.setTopology(), p.updateControlPlane(), p.rollControlPlane()}
			}(),
			want: Violation{Invariant: "publisher", Class: "gossip", Step: 2, Story: []string{
				"step 1 is done: set spec.topology.dns.type to None",
				"the control plane's templates no longer gossip",
				"a node of control-plane-a dies",
				"a control-plane node comes back from its group's template, which does not gossip",
				"nobody publishes the API's names any more, and a gossip worker of nodes-a still takes them from the overlay -> the next control-plane node that is replaced leaves it with an address that leads nowhere",
			}},
		},
		"Terraform's first pass has no address to write": {
			problem: with(withoutBalancer(3, 20), func(p *Problem) { p.Via = Terraform }),
			steps:   []Step{bare.setTopology(), bare.terraformFirstPass()},
			want: Violation{Invariant: "boot", Class: "unresolved", Step: 2, Story: []string{
				"step 1 is done: set spec.topology.dns.type to None",
				"the first group's template is now unresolved",
				"the autoscaler adds a worker from a template without any address: it asks for its configuration under a name that nothing resolves -> it never joins",
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := mustCheck(t, test.problem, test.steps)
			i := slices.IndexFunc(all, func(v Violation) bool {
				return v.Invariant == test.want.Invariant && v.Class == test.want.Class
			})
			if i < 0 {
				t.Fatalf("not found among %+v", all)
			}
			if diff := cmp.Diff(test.want, all[i]); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheControlPlaneFirstLosesWorkersInTheEnd(t *testing.T) {
	p := with(gossiping(3, 20), func(p *Problem) { p.Via = Lab })
	all := mustCheck(t, p, []Step{p.setTopology(), p.updateControlPlane(), p.rollControlPlane()})
	i := slices.IndexFunc(all, func(v Violation) bool { return v.Invariant == "steady" })
	if i < 0 {
		t.Fatalf("no worker loses the API: %+v", all)
	}
	last := all[i].Story[len(all[i].Story)-1]
	if want := "still resolves the API to addresses that no longer exist -> it has lost the API"; !strings.HasSuffix(last, want) {
		t.Errorf("the story ends %q, want %q", last, want)
	}
}

// For each cluster with a hazard there is an order that has none, via every
// executor; without a load balancer, if one may be created.
func TestTheRepairedOrder(t *testing.T) {
	for name, make := range map[string]func() *Problem{
		"a load balancer":    func() *Problem { return gossiping(3, 20) },
		"no load balancer":   func() *Problem { return with(withoutBalancer(3, 20), func(p *Problem) { p.CreateBalancer = true }) },
		"no bridge, replace": func() *Problem { return with(gossiping(3, 20), func(p *Problem) { p.NoBridge = true }) },
	} {
		for _, via := range Executors() {
			t.Run(name+" via "+string(via), func(t *testing.T) {
				p := with(make(), func(p *Problem) { p.Via = via })
				if all := mustCheck(t, p, p.stepsOf(t, ids(mustPlan(t, p)))); len(all) > 0 {
					t.Errorf("the plan violates %+v", all)
				}
			})
		}
	}
}
