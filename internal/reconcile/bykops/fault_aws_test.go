package bykops_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/report"
)

// untouched checks that a group is what it was before a canary.
func (s *scene) untouched(before cloud.Group) {
	s.t.Helper()
	now := s.group(before.Name)
	if !slices.Equal(running(now), running(before)) || now.Min != before.Min || now.Desired != before.Desired {
		s.t.Errorf("%s was %v of %d..%d, and is %v of %d..%d", before.Name, running(before), before.Min, before.Desired, running(now), now.Min, now.Desired)
	}
	for _, i := range now.Instances {
		if i.State == "running" && i.Detached {
			s.t.Errorf("%s was left outside its group", i.ID)
		}
		if n := s.kube.Node(i.ID); n != nil && n.Spec.Unschedulable {
			s.t.Errorf("%s was left cordoned", i.ID)
		}
	}
}

var canary, roll = plan.Planned{ID: "canary"}, plan.Planned{ID: "roll-workers"}

func TestAWSACanaryThatNeverJoinsIsRemoved(t *testing.T) {
	s, _ := fromScratch(t)
	s.update("1.36.2")
	before := s.group("nodes-a")
	s.booter.Refuse(func(_ cloud.Group, i cloud.Instance) bool { return i.Generation == cloud.GenerationNew })
	o := follow(t, s.quick(func(c *bykops.Config) { c.JoinWithin = 2 * time.Second }), canary, nil)
	if !strings.Contains(o.trouble, "joined by the new path: fail") || !strings.Contains(o.trouble, "has not registered") {
		t.Errorf("stopped by %q", o.trouble)
	}
	for _, part := range []string{"a new node of nodes-a, from what is seen: joins", "boots with: addresses, servers [https://10.9.0.250:3988/]", "console of i-"} {
		if !strings.Contains(o.evidence, part) {
			t.Errorf("the evidence lacks %q:\n%s", part, o.evidence)
		}
	}
	s.untouched(before)
	if e := s.kube.Evicted(); len(e) > 0 {
		t.Errorf("evicted %v", e)
	}
}

func TestAWSACanaryThatJoinsByTheOldPathIsRemoved(t *testing.T) {
	s, w := fromScratch(t)
	again := workers
	again.Hash = "another" // a new generation that still gossips
	w.Update(again)
	before := s.group("nodes-a")
	o := follow(t, s.quick(func(c *bykops.Config) { c.JoinWithin = 2 * time.Second }), canary, nil)
	if !strings.Contains(o.trouble, "its template leads through the old path: gossip") {
		t.Errorf("stopped by %q", o.trouble)
	}
	s.untouched(before)
}

func TestAWSAnEmptyListOfAddressesStopsBeforeAnyNode(t *testing.T) {
	s, w := fromScratch(t)
	out, err := w.EC2.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range out.NetworkInterfaces {
		if strings.HasPrefix(awssdk.ToString(n.Description), "ELB net/") {
			if _, err := w.EC2.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: n.NetworkInterfaceId}); err != nil {
				t.Fatal(err)
			}
		}
	}
	actions, err := s.quick(nil).Actions(t.Context(), plan.Planned{ID: "update-workers", How: []string{"kops update cluster --name " + s.name + " --create-kube-config=false --yes"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := actions[0].Do(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	if v, why := actions[0].Gates[0].Check(t.Context()); v != report.Fail || !strings.Contains(why, "nodes-a boots by name: its list of addresses is empty") {
		t.Errorf("the gate says %s: %s", v, why)
	}
}

func TestAWSADisruptionBudgetThatBlocksForEverStopsTheRoll(t *testing.T) {
	s, _ := fromScratch(t)
	s.update("1.36.2")
	s.kube.PutBudget(webBudget(), 0)
	old := running(s.group("nodes-a"))
	o := follow(t, s.quick(func(c *bykops.Config) { c.DrainWithin = 2 * time.Second }), roll, nil)
	if !strings.Contains(o.trouble, "PodDisruptionBudget shop/web") || !strings.Contains(o.trouble, "shop/web-"+old[0]) {
		t.Errorf("stopped by %q", o.trouble)
	}
	if !strings.Contains(o.evidence, old[0]+" works on outside its group") {
		t.Errorf("evidence: %q", o.evidence)
	}
	for _, id := range old {
		if n := s.kube.Node(id); n == nil || n.Spec.Unschedulable {
			t.Errorf("old node %s: %+v", id, n)
		}
	}
	s.kube.DropBudgets()
	if o := follow(t, s.quick(nil), roll, nil); o.trouble != "" || o.acted[0] != "replace/"+old[0] {
		t.Errorf("once the budget is gone: %+v", o)
	}
	if n := generations(s.see().Cloud); n[cloud.GenerationOld] != 3 || len(running(s.group("nodes-a"))) != 2 {
		t.Errorf("generations %v, of which three are the control plane's", n)
	}
}

func webBudget() policyv1.PodDisruptionBudget {
	return policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}
}

func TestAWSAnInstanceThatVanishesWhileItIsDrainedIsReplacedAllTheSame(t *testing.T) {
	s, w := fromScratch(t)
	s.update("1.36.2")
	s.kube.PutBudget(webBudget(), 0)
	old := running(s.group("nodes-a"))
	gone := make(chan error, 1)
	go func() {
		for n := s.kube.Node(old[0]); n == nil || !n.Spec.Unschedulable; n = s.kube.Node(old[0]) {
			if t.Context().Err() != nil {
				gone <- t.Context().Err()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		_, err := w.EC2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: old[:1]})
		s.kube.DropBudgets()
		gone <- err
	}()
	o := follow(t, s.quick(nil), roll, nil)
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	if o.trouble != "" || len(running(s.group("nodes-a"))) != 2 {
		t.Errorf("stopped by %q, with %v", o.trouble, running(s.group("nodes-a")))
	}
}

func TestAWSANodeOfTheOldGenerationThatIsBornDuringTheRollIsReplaced(t *testing.T) {
	s, w := fromScratch(t)
	s.update("1.36.2")
	g := s.group("nodes-a")
	old := running(g)
	added := false
	o := follow(t, s.quick(nil), roll, func(string) {
		if added {
			return
		}
		added = true
		// The autoscaler asked before the update, and is served now.
		for _, version := range []string{"2", g.Template.Version} {
			if _, err := w.EC2.ModifyLaunchTemplate(t.Context(), &ec2.ModifyLaunchTemplateInput{LaunchTemplateId: &g.Template.ID, DefaultVersion: &version}); err != nil {
				t.Fatal(err)
			}
			if version == "2" {
				resize(t, w, g.ID, 3)
			}
		}
	})
	if o.trouble != "" || len(o.acted) != 3 {
		t.Fatalf("%d replaced of %d and one more, stopped by %q", len(o.acted), len(old), o.trouble)
	}
	now := s.group("nodes-a")
	if len(running(now)) != 3 {
		t.Errorf("instances %v, want 3", running(now))
	}
	for _, i := range now.Instances {
		if i.State == "running" && i.Generation != cloud.GenerationNew {
			t.Errorf("%s is of generation %s", i.ID, i.Generation)
		}
	}
}

// stuck is a load balancer that does not let go.
type stuck struct{ hands }

func (stuck) Deregister(context.Context, string) error {
	return errors.New("elasticloadbalancing:DeregisterTargets: throttled")
}

func TestAWSAControlPlaneNodeStaysIfTheBalancerDoesNotLetGo(t *testing.T) {
	s, _ := fromScratch(t)
	s.update("1.36.2")
	before := s.group("control-plane-a")
	o := follow(t, s.quick(func(c *bykops.Config) { c.Machines = stuck{s.operator} }), plan.Planned{ID: "roll-control-plane"}, nil)
	if !strings.Contains(o.trouble, "DeregisterTargets: throttled") {
		t.Errorf("stopped by %q", o.trouble)
	}
	s.untouched(before)
	if l, _ := s.see().Cloud.LoadBalancers[0].Listener(443); l.Healthy() != 3 {
		t.Errorf("%d control-plane nodes are behind the load balancer", l.Healthy())
	}
}

func TestAWSAKopsThatFailsHalfWayIsRunAgain(t *testing.T) {
	s, _ := fromScratch(t)
	step := plan.Planned{ID: "update-workers", Title: "update", How: []string{"kops update cluster --name " + s.name + " --create-kube-config=false --instance-group-roles=node --yes"}}
	t.Setenv("MUSTER_KOPS_FAIL", "half")
	o := follow(t, s.quick(nil), step, nil)
	if !strings.Contains(o.trouble, "error running tasks") {
		t.Errorf("stopped by %q", o.trouble)
	}
	if told := o.trouble + strings.Join(o.said, "\n"); strings.Contains(told, "kept-from-everybody") || !strings.Contains(told, "S3_SECRET_ACCESS_KEY=(secret)") {
		t.Errorf("kops's output was kept as:\n%s", told)
	}
	t.Setenv("MUSTER_KOPS_FAIL", "")
	if o := follow(t, s.quick(nil), step, nil); o.trouble != "" {
		t.Errorf("run again it was stopped by %q", o.trouble)
	}
}

func TestAWSWhereThereIsNoWayByTheInstanceKopsRollsTheGroup(t *testing.T) {
	s, _ := fromScratch(t)
	s.update("1.36.2")
	o := follow(t, s.quick(func(c *bykops.Config) { c.Machines, c.Infrastructure = nil, nil }), roll, nil)
	if o.trouble != "" || !slices.Equal(o.acted, []string{"roll/nodes-a"}) {
		t.Fatalf("%+v", o)
	}
	for _, i := range s.group("nodes-a").Instances {
		if i.State == "running" && i.Generation != cloud.GenerationNew {
			t.Errorf("%s is of generation %s", i.ID, i.Generation)
		}
	}
}
