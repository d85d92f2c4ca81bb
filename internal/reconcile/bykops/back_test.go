package bykops_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops/kopstest"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// until stops a run once so many steps of the plan are over.
func (s *scene) until(f plan.File, steps int) []reconcile.Gate {
	return []reconcile.Gate{{Name: "far enough", Check: func(ctx context.Context) (report.Verdict, string) {
		r, err := reconcile.Current(ctx, s.store, s.name)
		if err != nil {
			return report.Unknown, err.Error()
		}
		st, err := r.Status(lock.State{})
		if err != nil {
			return report.Unknown, err.Error()
		}
		if st.Leg.Done >= steps {
			return report.Fail, "the test stops here"
		}
		return report.Pass, "not there yet"
	}}}
}

// watched is a story of which every look asks whether a node is lost: how many
// there are, and whether each group's next one would join.
type watched struct {
	*story
	s      *scene
	lost   string
	lowest int // nodes
}

func (w *watched) Looked(reconcile.World) {
	w.lowest = min(w.lowest, len(w.s.kube.Nodes()))
	seen := w.s.see()
	in := seen.Audit()
	in.Now = time.Now()
	for _, g := range audit.Run(in, nil).Groups {
		if g.Role == cluster.RoleNode && g.Joinable != audit.Joins && w.lost == "" {
			w.lost = fmt.Sprintf("a new node of %s: %s: %s", g.Name, g.Joinable, g.Deciding())
			w.add("  LOST %s", w.lost)
		}
	}
}

// leg carries a plan out in one direction. by is a person at work beside it: it is
// asked when the run stops, and reports whether the run may go on.
func (s *scene) leg(f plan.File, c reconcile.Config, by func(reconcile.Result) bool) (reconcile.Result, *story) {
	s.t.Helper()
	told := &story{t: s.t}
	watching := &watched{story: told, s: s, lowest: 5}
	defer func() {
		if watching.lost != "" || watching.lowest < 4 {
			s.t.Errorf("%s: lost: %q; at one time only %d nodes\n%s", c.Direction, watching.lost, watching.lowest, told)
		}
	}()
	c.Plan, c.Store, c.Owner, c.Progress = f, s.store, "test", watching
	c.Executor = s.executor(f, s.killable(&killtest.Fuse{}))
	for {
		result, err := reconcile.Run(s.t.Context(), c)
		if err != nil {
			s.t.Fatalf("%s: %v\n%s", c.Direction, err, told)
		}
		if result.Ended != reconcile.EndedHolding || by == nil || !by(result) {
			return result, told
		}
	}
}

// asBefore checks that a cluster is what it was before a plan was begun, nodes and
// all, but for which instances they are.
func (s *scene) checkRestored(before remains, p kopstest.FakeAWS, what string, told *story) {
	s.t.Helper()
	now := s.remains(p)
	fault := func(format string, args ...any) {
		s.t.Helper()
		s.t.Errorf("%s: %s\n%s", what, fmt.Sprintf(format, args...), told)
	}
	seen := s.see()
	for _, g := range seen.Cloud.Groups {
		if len(g.Instances) != g.Desired {
			fault("%s has %d instances of %d", g.Name, len(g.Instances), g.Desired)
		}
		for _, i := range g.Instances {
			if n := s.kube.Node(i.ID); n == nil || n.Spec.Unschedulable || i.Generation != cloud.GenerationNew || i.Detached {
				fault("%s of %s: node %v, %+v", i.ID, g.Name, n != nil, i)
			}
		}
	}
	for n, g := range before.Groups {
		// One kOps may have made the workers' templates and another the control plane's.
		_, was, _ := strings.Cut(g.Versions[len(g.Versions)-1], "/nodeup\n")
		_, is, _ := strings.Cut(now.Groups[n].Versions[len(now.Groups[n].Versions)-1], "/nodeup\n")
		if was != is {
			fault("%s boots with\n%s\nand booted with\n%s", g.Name, is, was)
		}
	}
	for n, r := range before.Roles {
		if fmt.Sprint(r.Policies) != fmt.Sprint(now.Roles[n].Policies) {
			fault("%s holds %v, and held %v", r.Name, now.Roles[n].Policies, r.Policies)
		}
	}
	for key, was := range before.Store {
		if now.Store[key] != was {
			fault("%s is %q, and was %q", key, now.Store[key], was)
		}
	}
	if now.Held != nil || now.Left > 0 {
		fault("the overlay holds %v, and %d pods of ours are left", now.Held, now.Left)
	}
}

// shapes are clusters that plans are made for, and what a person does where a plan
// leaves a step to one.
var shapes = []struct {
	name   string
	change func(*kopstest.FakeState)
	spec   string // of the load balancer, in place of lyra's
	hybrid bool
	by     func(s *scene, p kopstest.FakeAWS) func(reconcile.Result) bool
	to     []cluster.Topology
}{
	{name: "with a network load balancer", to: []cluster.Topology{cluster.Hybrid, cluster.None}},
	{name: "with a classic load balancer", to: []cluster.Topology{cluster.Hybrid, cluster.None}, by: makesBalancer,
		spec: "    loadBalancer:\n      class: Classic\n      type: Public\n",
		change: func(s *kopstest.FakeState) {
			s.Balancers = []kopstest.FakeBalancer{{Name: "classic-lyra", Class: "classic", Ports: []int{443}}}
			s.Groups[0].Balancers = []string{"classic-lyra"}
		}},
	{name: "without a load balancer", to: []cluster.Topology{cluster.None}, by: makesBalancer, spec: "    dns: {}\n",
		change: func(s *kopstest.FakeState) { s.Balancers, s.Groups[0].Balancers = nil, nil }},
	{name: "hybrid already", to: []cluster.Topology{cluster.None}, hybrid: true},
}

const networkSpec = "    loadBalancer:\n      class: Network\n      type: Public\n"

// makesBalancer is the person who does what the step make-balancer says.
func makesBalancer(s *scene, p kopstest.FakeAWS) func(reconcile.Result) bool {
	return func(r reconcile.Result) bool {
		if !strings.Contains(r.Why, "your turn: make a network load balancer for the API: there is none; set spec.api.loadBalancer with class Network") {
			return false
		}
		_, err := store.Update(s.t.Context(), s.store, store.Layout(s.name).Config(), func(old []byte) ([]byte, error) {
			head, _, _ := strings.Cut(string(old), "  api:\n")
			_, rest, _ := strings.Cut(string(old), "  cloudProvider:")
			return []byte(head + "  api:\n" + networkSpec + "  cloudProvider:" + rest), nil
		})
		if err == nil {
			err = p.Change(s.t.Context(), func(s *kopstest.FakeState) error {
				s.Balancers = append(s.Balancers, kopstest.FakeBalancer{Name: "api-lyra", Class: "network", Ports: []int{443}, Addrs: []netip.Addr{netip.MustParseAddr(awstest.BalancerAddress)}})
				s.Groups[0].Balancers = []string{"api-lyra"} // the classic one loses its targets
				return nil
			})
		}
		if err == nil {
			err = s.find("1.35.2").Run(s.t.Context(), []string{"update", "cluster", "--name", s.name, "--create-kube-config=false", "--yes"}, func(string) {})
		}
		if err != nil {
			s.t.Error(err)
		}
		return err == nil
	}
}

// Every shape goes to every target and there is nothing left to do; and from the
// end of every step it goes back to where it was, with no node lost.
func TestEveryShapeOfClusterGetsThereAndBackFromEveryStep(t *testing.T) {
	for _, shape := range shapes {
		for _, to := range shape.to {
			t.Run(fmt.Sprintf("%s to %s", shape.name, to), func(t *testing.T) {
				begin := func(t *testing.T) (*scene, kopstest.FakeAWS, plan.File, func(reconcile.Result) bool) {
					s, p := fakeScene(t, shape.change, shape.spec)
					s.create = shape.by != nil
					if shape.hybrid {
						f := s.plan(cluster.Hybrid)
						s.release(f)
						if r, told := s.leg(f, reconcile.Config{}, nil); r.Ended != reconcile.EndedDone {
							t.Fatalf("to hybrid: %+v\n%s", r, told)
						}
					}
					f := s.plan(to)
					s.release(f)
					if shape.by == nil {
						return s, p, f, nil
					}
					return s, p, f, shape.by(s, p)
				}
				steps := 0
				synctest.Test(t, func(t *testing.T) {
					s, _, f, by := begin(t)
					r, told := s.leg(f, reconcile.Config{}, by)
					if r.Ended != reconcile.EndedDone {
						t.Fatalf("%s: ended %+v\n%s", ids(f.Steps), r, told)
					}
					if to == cluster.None {
						s.checkEnd(f, told)
					}
					t.Log(ids(f.Steps))
					for _, step := range f.Steps {
						if step.Irreversible {
							break
						}
						steps++
					}
				})
				stride := 7
				if everyPoint() {
					stride = 1
				}
				for n := 1; n <= steps; n += stride {
					synctest.Test(t, func(t *testing.T) { goesBack(t, n, begin) })
				}
			})
		}
	}
}

func goesBack(t *testing.T, after int, begin func(*testing.T) (*scene, kopstest.FakeAWS, plan.File, func(reconcile.Result) bool)) {
	s, p, f, by := begin(t)
	before := s.remains(p)
	gates := s.until(f, after)
	if r, told := s.leg(f, reconcile.Config{Gates: gates}, by); r.Ended != reconcile.EndedDone && !strings.Contains(r.Why, "the test stops here") {
		t.Fatalf("forward %d: ended %+v\n%s", after, r, told)
	}
	what := fmt.Sprintf("back from after step %d, %s", after, f.Steps[after-1].ID)
	r, told := s.leg(f, reconcile.Config{Direction: report.Back}, nil)
	if r.Ended != reconcile.EndedReturned {
		t.Errorf("%s: ended %+v\n%s", what, r, told)
		return
	}
	if f.Steps[0].ID == "make-balancer" {
		// A load balancer that was made stays, and the spec that asks for it.
		delete(before.Store, store.Layout(s.name).Config())
	}
	s.checkRestored(before, p, what, told)
	for node, n := range told.replaced {
		if n > 1 {
			t.Errorf("%s: %s was replaced %d times", what, node, n)
		}
	}
}
