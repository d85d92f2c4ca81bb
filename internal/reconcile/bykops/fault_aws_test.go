package bykops_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/open"
)

const lyra = `apiVersion: kops.k8s.io/v1alpha2
kind: Cluster
metadata:
  name: lyra.k8s.local
spec:
  api:
    loadBalancer:
      class: Network
      type: Public
  cloudProvider: aws
  configBase: s3://kops-state/lyra.k8s.local
  kubernetesVersion: 1.34.2
  networkCIDR: 10.9.0.0/16
  subnets:
  - cidr: 10.9.0.0/20
    name: us-east-1a
    type: Public
    zone: us-east-1a
  topology:
    dns:
      type: Private
`

func instanceGroup(name, role string) string {
	return "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata:\n  labels:\n    kops.k8s.io/cluster: lyra.k8s.local\n  name: " + name +
		"\nspec:\n  maxSize: 3\n  minSize: 2\n  role: " + role + "\n  subnets:\n  - us-east-1a\n"
}

// Two groups: three control-plane nodes, two workers, all of kOps 1.35 and
// gossiping.
var (
	members = awstest.UserData{State: "kops-state/lyra.k8s.local", Release: "1.35.2", Group: "control-plane-a", Role: "ControlPlane"}
	workers = awstest.UserData{State: "kops-state/lyra.k8s.local", Release: "1.35.2", Group: "nodes-a", Role: "Node"}
)

// fromScratch is a scene of a cluster of our own.
func fromScratch(t *testing.T) (*scene, *awstest.World) {
	t.Helper()
	url := awstest.Start(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/kops-state", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	const name, state = "lyra.k8s.local", "s3://kops-state"
	st, err := open.Store(t.Context(), state, open.Config{Getenv: os.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	layout := store.Layout(name)
	for key, text := range map[string]string{
		layout.Config(): lyra, layout.Group("control-plane-a"): instanceGroup("control-plane-a", "Master"), layout.Group("nodes-a"): instanceGroup("nodes-a", "Node"),
	} {
		if _, err := st.Put(t.Context(), key, []byte(text), store.Absent); err != nil {
			t.Fatal(err)
		}
	}
	w := awstest.NewWorld(t, name, awstest.NetworkBalancer)
	w.AddGroup(members, 0)
	w.AddGroup(workers, 0)
	s := newScene(t, name, state)
	s.update("1.35.2")
	if err := s.operator.PutPolicy(t.Context(), "masters."+name, "masters."+name, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`); err != nil {
		t.Fatal(err)
	}
	resize(t, w, "control-plane-a.masters."+name, 3)
	resize(t, w, "nodes-a."+name, 2)
	s.settle(5)
	return s, w
}

// update runs the stand-in kops on all groups.
func (s *scene) update(version string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.kops, "update", "cluster", "--name", s.name, "--create-kube-config=false", "--yes")
	cmd.Env = append(os.Environ(), "KOPS_STATE_STORE="+s.state, "MUSTER_KOPS_VERSION="+version)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("kops %s: %v\n%s", version, err, out)
	}
}

func resize(t *testing.T, w *awstest.World, group string, size int32) {
	t.Helper()
	if _, err := w.ASG.UpdateAutoScalingGroup(t.Context(), &autoscaling.UpdateAutoScalingGroupInput{
		AutoScalingGroupName: &group, MinSize: &size, MaxSize: &size, DesiredCapacity: &size,
	}); err != nil {
		t.Fatal(err)
	}
}

// settle waits until there are so many nodes.
func (s *scene) settle(nodes int) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for len(s.kube.Nodes()) != nodes {
		if time.Now().After(deadline) {
			s.t.Fatalf("nodes %v, want %d; %s", s.kube.Nodes(), nodes, s.booter)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// outcome is how a step ended.
type outcome struct {
	trouble  string // empty: it is done
	evidence string
	said     []string
	acted    []string // actions
}

// follow carries one step out as package reconcile does, up to the first doubt.
func follow(t *testing.T, e *bykops.Executor, step plan.Planned, after func(id string)) (o outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for range 20 {
		left, err := e.Actions(ctx, step)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return o
		}
		a := left[0]
		o.acted = append(o.acted, a.ID)
		if a.Do != nil {
			if err := a.Do(ctx, func(line string) { o.said = append(o.said, line) }); err != nil {
				o.trouble = err.Error()
			}
		}
		for _, g := range a.Gates {
			if o.trouble == "" {
				if v, why := await(ctx, g); v != report.Pass {
					o.trouble = g.Name + ": " + string(v) + ": " + why
				}
			}
		}
		if o.trouble != "" {
			if a.Abort != nil {
				if o.evidence, err = a.Abort(ctx); err != nil {
					t.Errorf("abort of %s: %v", a.ID, err)
				}
			}
			return o
		}
		if after != nil {
			after(a.ID)
		}
	}
	t.Fatalf("no end after %v", o.acted)
	return o
}

func await(ctx context.Context, g reconcile.Gate) (v report.Verdict, why string) {
	began := time.Now()
	for {
		if v, why = g.Check(ctx); v == report.Pass || time.Since(began) > g.Within {
			return v, why
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *scene) group(name string) cloud.Group {
	s.t.Helper()
	for _, g := range s.see().Cloud.Groups {
		if g.Name == name {
			return g
		}
	}
	s.t.Fatalf("no group %s", name)
	return cloud.Group{}
}

func running(g cloud.Group) (ids []string) {
	for _, i := range g.Instances {
		if i.State == "running" {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// problem is that of a plan from here to hybrid.
func (s *scene) problem() plan.File {
	s.t.Helper()
	p, facts, err := s.see().Problem(plan.Ask{To: "hybrid"})
	if err != nil {
		s.t.Fatal(err)
	}
	return plan.Seal(plan.Plan{Problem: p}, facts)
}

func (s *scene) quick(change func(*bykops.Config)) *bykops.Executor {
	return s.executor(s.problem(), func(c *bykops.Config) {
		c.JoinWithin, c.DrainWithin = 20*time.Second, 20*time.Second
		if change != nil {
			change(c)
		}
	})
}

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
