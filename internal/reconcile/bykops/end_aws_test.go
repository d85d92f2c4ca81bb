package bykops_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// What every migration leaves behind, however it got there.
func (s *scene) checkEnd(f plan.File, told *story) {
	s.t.Helper()
	seen := s.see()
	if n := generations(seen.Cloud); n[cloud.GenerationOld]+n[cloud.GenerationUnknown] > 0 {
		s.t.Errorf("generations at the end: %v", n)
	}
	for _, g := range seen.Cloud.Groups {
		if len(g.Instances) != g.Desired {
			s.t.Errorf("%s has %d instances, and %d are desired", g.Name, len(g.Instances), g.Desired)
		}
		if g.Role == cluster.RoleNode && bootconfig.Path(g.Template.Boot) != cloud.BootAddresses {
			s.t.Errorf("%s boots by %s", g.Name, bootconfig.Path(g.Template.Boot))
		}
		for _, i := range g.Instances {
			n := s.kube.Node(i.ID)
			if n == nil {
				s.t.Errorf("%s of %s is no node", i.ID, g.Name)
			} else if n.Spec.Unschedulable {
				s.t.Errorf("%s of %s is cordoned", i.ID, g.Name)
			}
		}
	}
	for node, n := range told.replaced {
		if n > 1 {
			s.t.Errorf("%s was replaced %d times", node, n)
		}
	}
	problem, _, err := seen.Problem(plan.Options{To: f.Problem.To})
	if err != nil {
		s.t.Fatal(err)
	}
	left, err := plan.Find(s.t.Context(), problem)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(left.Steps) > 0 || left.Refused != nil {
		s.t.Errorf("a plan made afterwards still has steps: %+v", left.Steps)
	}
	for _, r := range seen.Cloud.Roles {
		for name := range r.Policies {
			if strings.HasPrefix(name, "muster-") {
				s.t.Errorf("policy %s was left in role %s", name, r.Name)
			}
		}
	}
	if s.overlay.held != nil {
		s.t.Errorf("the overlay still holds %v", s.overlay.held)
	}
	if pods := s.kube.Pods("muster-"); len(pods) > 0 {
		s.t.Errorf("pods were left: %v", pods)
	}
}

func TestAWSFromGossipToNone(t *testing.T) {
	s := fromSample(t, "gossip-1.35")
	f := s.plan(cluster.None)
	var ids []string
	for _, p := range f.Steps {
		ids = append(ids, p.ID)
	}
	t.Logf("plan: %s", strings.Join(ids, " "))
	result, told := s.run(f, s.executor(f, nil))
	t.Logf("%s", told)
	if result.Ended != reconcile.EndedDone {
		t.Fatalf("got %+v, want done", result)
	}
	s.checkEnd(f, told)
	workers := 0
	for _, n := range told.replaced {
		workers += n
	}
	if workers != 6 || told.canaries != 1 {
		t.Errorf("%d nodes replaced and %d canaries, want 6 and 1", workers, told.canaries)
	}
	if slices.Contains(ids, "publish") && s.overlay.holds == 0 {
		t.Error("the bridge was never up")
	}
}

func TestAWSFromGossipToHybridToNone(t *testing.T) {
	s := fromSample(t, "gossip-1.35")
	for _, to := range []cluster.Topology{cluster.Hybrid, cluster.None} {
		f := s.plan(to)
		result, told := s.run(f, s.executor(f, nil))
		if result.Ended != reconcile.EndedDone {
			t.Fatalf("to %s: got %+v, want done\n%s", to, result, told)
		}
		seen := s.see()
		for _, g := range seen.Cloud.Groups {
			if g.Role == cluster.RoleNode && bootconfig.Path(g.Template.Boot) != cloud.BootAddresses {
				t.Errorf("to %s: %s boots by %s", to, g.Name, bootconfig.Path(g.Template.Boot))
			}
		}
		if to == cluster.None {
			s.checkEnd(f, told)
		}
	}
}

// The kOps of before puts the old templates, the role and the add-on back, on the
// same AWS, and every node that was replaced is replaced once more.
func TestAWSFromNoneBackToGossip(t *testing.T) {
	s := fromSample(t, "gossip-1.35")
	f := s.plan(cluster.None)
	s.release(f)
	replaced := slices.IndexFunc(f.Steps, func(p plan.Planned) bool { return p.ID == "roll-control-plane" }) + 1
	forth := &story{t: t}
	result, err := reconcile.Run(t.Context(), reconcile.Config{Plan: f, Store: s.store, Owner: "test", Progress: forth, Executor: s.executor(f, nil), Gates: s.until(f, replaced)})
	if err != nil || !strings.Contains(result.Why, "the test stops here") {
		t.Fatalf("forward: %+v, %v\n%s", result, err, forth)
	}
	back := &story{t: t}
	result, err = reconcile.Run(t.Context(), reconcile.Config{Plan: f, Store: s.store, Owner: "test", Progress: back, Executor: s.executor(f, nil), Direction: report.Back})
	if err != nil || result.Ended != reconcile.EndedReturned {
		t.Fatalf("back: %+v, %v\n%s", result, err, back)
	}
	seen := s.see()
	for _, g := range seen.Cloud.Groups {
		if path := bootconfig.Path(g.Template.Boot); path != cloud.BootGossip {
			t.Errorf("%s boots by %s", g.Name, path)
		}
		for _, i := range g.Instances {
			if n := s.kube.Node(i.ID); i.Generation != cloud.GenerationNew || n == nil || n.Spec.Unschedulable {
				t.Errorf("%s of %s is of generation %s, a node: %v", i.ID, g.Name, i.Generation, n != nil)
			}
		}
	}
	problem, _, err := seen.Problem(plan.Options{To: cluster.Gossip})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := plan.Find(t.Context(), problem); err != nil || left.Refused != nil || len(left.Steps) > 0 {
		t.Errorf("a plan to gossip still has steps: %+v, %v", left.Steps, err)
	}
}
