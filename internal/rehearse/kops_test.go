package rehearse

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

func (w *world) SetTemplate(group string, path cloud.BootPath) {
	_ = w.note(fmt.Sprintf("template %s %s", group, path))
}
func (w *world) Permit(yes bool) error                     { return w.note(fmt.Sprint("permit ", yes)) }
func (w *world) RetireController(context.Context) error    { return w.note("retire") }
func (w *world) Replace(_ context.Context, n string) error { return w.note("replace " + n) }
func (w *world) Boot(string) (waits string, err error)     { return w.waits, nil }

// kopsPlanner returns a planner for workers that are kOps nodes.
func kopsPlanner(w *world, start cluster.Topology) planner {
	g := gates{world: w, kops: w, cluster: "t.k8s.local"}
	return planner{layout: w.layout, exec: w, kops: w, gates: g, start: start}
}

// planOf returns a plan with steps of these IDs, on AWS.
func planOf(via plan.Executor, start plan.State, ids ...string) plan.Plan {
	pl := plan.Plan{Problem: plan.Problem{Cloud: cluster.AWS, Via: via, Starts: []plan.Start{{State: start}}}}
	for _, id := range ids {
		pl.Steps = append(pl.Steps, plan.Planned{ID: id, Title: id, Why: "it comes next"})
	}
	return pl
}

func TestAPlanOnKopsNodes(t *testing.T) {
	gossip := plan.State{Lookup: true}
	for _, tt := range []struct {
		name   string
		pl     plan.Plan
		start  cluster.Topology
		listed bool // the cluster has no load balancer
		want   []string
	}{
		{
			name:  "an update narrows the role at once and a policy bridges that",
			pl:    planOf(plan.Kops, gossip, "add-policy", "update-workers", "canary", "roll-workers", "remove-policy"),
			start: cluster.Hybrid,
			want: []string{
				"permit true", "permit true", "template a addresses", "template b addresses",
				"replace a-1", "reboot a-1", "replace b", "reboot b", "replace a-2", "permit false",
			},
		},
		{
			name:  "without a policy who gossips could not boot after an update",
			pl:    planOf(plan.Kops, gossip, "update-workers"),
			start: cluster.Hybrid,
			want:  []string{"permit false", "template a addresses", "template b addresses"},
		},
		{
			name:  "an update that is told to leave the role leaves it",
			pl:    planOf(plan.Kops, gossip, "update-workers-held"),
			start: cluster.Hybrid,
			want:  []string{"template a addresses", "template b addresses"},
		},
		{
			name:  "once None is set an update of anything ends dns-controller",
			pl:    planOf(plan.Kops, plan.State{}, "set-none", "update-control-plane"),
			start: cluster.Hybrid,
			want:  []string{"retire"},
		},
		{
			name:  "and not before, nor when None was taken back",
			pl:    planOf(plan.Kops, plan.State{None: true}, "unset-none", "update-control-plane"),
			start: cluster.Hybrid,
		},
		{
			name:   "without an address kOps writes a name",
			pl:     planOf(plan.Kops, plan.State{}, "set-none", "update-workers"),
			start:  cluster.Hybrid,
			listed: true,
			want:   []string{"retire", "template a name", "template b name"},
		},
		{
			name:   "without None it writes gossip, and leaves the role",
			pl:     planOf(plan.Kops, gossip, "update-workers"),
			start:  cluster.Hybrid,
			listed: true,
			want:   []string{"template a gossip", "template b gossip"},
		},
		{
			name:  "with Terraform every effect is a step",
			pl:    planOf(plan.Terraform, gossip, "set-none", "update-workers", "narrow", "remove-dns-controller"),
			start: cluster.Hybrid,
			want:  []string{"template a addresses", "template b addresses", "permit false", "retire"},
		},
		{
			name:  "a second replacement is a replacement",
			pl:    planOf(plan.Terraform, plan.State{}, "canary", "roll-workers", "canary"),
			start: cluster.Hybrid,
			want:  []string{"replace a-1", "reboot a-1", "replace b", "reboot b", "replace a-2", "replace a-1", "reboot a-1", "replace b", "reboot b"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // an add-on goes after a while
				w := healthy(t)
				if tt.listed {
					w.layout.LoadBalancer = netip.Addr{}
				}
				// kOps nodes have no local balancer to wait for.
				w.observation.Streak = map[probe.Path]int{probe.ByName: provenProbes}
				for _, s := range kopsPlanner(w, tt.start).stepsFor(tt.pl) {
					for _, a := range s.actions {
						if r, ok := a.perform(t.Context()); !ok || len(a.gates) == 0 {
							t.Fatalf("%s: %s: %+v", s.title, a.what, r)
						}
					}
				}
				if diff := cmp.Diff(tt.want, w.done); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestACanaryThatCannotJoinSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := healthy(t)
		w.waits = "it asks for its configuration under a name that nothing resolves"
		p := kopsPlanner(w, cluster.Hybrid)
		steps := p.stepsFor(planOf(plan.Kops, plan.State{}, "canary", "roll-workers"))
		r, ok := steps[0].actions[0].perform(t.Context())
		if ok || len(r.Gates) != 1 || r.Gates[0].Verdict != report.Fail || r.Gates[0].Reason != w.waits+" (after 30s)" {
			t.Errorf("ok %v, gates %+v; want one that fails with %q", ok, r.Gates, w.waits)
		}
	})
}

func TestReplacingAWorkerNeedsAnotherOneAndKopsNodes(t *testing.T) {
	layout := healthy(t).layout
	f, err := findFault("worker-replaced")
	if err != nil {
		t.Fatal(err)
	}
	for moving, want := range map[string]string{"a-1": "a-2", "a-2": "a-1", "b": "a-1"} {
		if got := f.target(layout, moving); got != want {
			t.Errorf("while %s is moved, %s is replaced; want %s", moving, got, want)
		}
	}
	r := &rehearsal{cfg: Config{Fault: f.kind, Cluster: layout.Cluster}}
	if _, err := r.plannedFault(); !errors.Is(err, errNotKops) {
		t.Errorf("for Muster's own workers: %v, want a refusal", err)
	}
	r.cfg.Boots = map[string]lab.Boot{}
	if _, err := r.plannedFault(); err != nil {
		t.Errorf("for kOps's: %v", err)
	}
}

func TestWhereARehearsalStarts(t *testing.T) {
	members := func(n uint8) []plan.Start {
		return []plan.Start{{State: plan.State{Members: plan.Members{GossipKnown: n}}}}
	}
	for _, tt := range []struct {
		name string
		dns  cluster.DNSType
		plan *plan.Plan
		want cluster.Topology
	}{
		{"a spec alone is taken for gossip", cluster.DNSPrivate, nil, cluster.Gossip},
		{"a spec that says None is none", cluster.DNSNone, nil, cluster.None},
		{"a plan that begins in gossip", cluster.DNSPrivate, &plan.Plan{Problem: plan.Problem{From: cluster.Gossip, Starts: members(3)}}, cluster.Gossip},
		{"a plan that begins in hybrid", cluster.DNSPrivate, &plan.Plan{Problem: plan.Problem{From: cluster.Hybrid, Starts: members(3)}}, cluster.Hybrid},
		{"None that the control plane has not heard of yet", cluster.DNSNone, &plan.Plan{Problem: plan.Problem{From: cluster.None, Starts: members(2)}}, cluster.Hybrid},
		{"None with workers of before", cluster.DNSNone, &plan.Plan{Problem: plan.Problem{From: cluster.None, Starts: members(0)}}, cluster.None},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Config{Cluster: &cluster.Cluster{Name: "t.k8s.local", DNSType: tt.dns}, Plan: tt.plan}.Start()
			if got != tt.want {
				t.Errorf("starts in %s, want %s", got, tt.want)
			}
		})
	}
}

func TestHowKopsNodesBootIsDescribed(t *testing.T) {
	r := &rehearsal{cfg: Config{
		Cluster: &cluster.Cluster{Groups: []cluster.Group{{Name: "a"}, {Name: "b"}}},
		Boots:   map[string]lab.Boot{"b": {Lives: cloud.BootGossip, Template: cloud.BootName}},
	}}
	want := []string{"b boots as kOps's nodeup has it: its workers were born to gossip, the next one is born with a name that nothing resolves"}
	if got := r.describeBoots(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
