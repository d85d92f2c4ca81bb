package bykops_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling"

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
	p, facts, err := s.see().Problem(plan.Options{To: "hybrid"})
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
