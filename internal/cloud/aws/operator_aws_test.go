package aws_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
)

func operate(t *testing.T, name string) *aws.Operator {
	t.Helper()
	o, err := aws.NewOperator(t.Context(), aws.Config{Cluster: name, Timeout: 30 * time.Second, Backoff: 10 * time.Millisecond, Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// twice does something two times, as after a crash between it and its record.
func twice(t *testing.T, what string, do func() error) {
	t.Helper()
	for n := range 2 {
		if err := do(); err != nil {
			t.Fatalf("%s, time %d: %v", what, n+1, err)
		}
	}
}

func ids(g cloud.Group) (all []string) {
	for _, i := range g.Instances {
		if i.State == "running" {
			all = append(all, i.ID)
		}
	}
	return all
}

func TestAWSReplacesAnInstanceAndUndoesIt(t *testing.T) {
	awstest.Start(t)
	w := awstest.NewWorld(t, "lyra.k8s.local", awstest.NetworkBalancer)
	w.AddGroup(controlPlane, 2)
	w.AddGroup(gossiping, 2)
	w.Update(addressed)
	o := operate(t, w.Cluster)
	group := func() cloud.Group { return groupNamed(t, observe(t, w.Cluster), "nodes-a") }
	before := ids(group())
	first := before[0]

	twice(t, "detach", func() error { return o.Detach(t.Context(), first) })
	g := group()
	if n := count(g); n[cloud.GenerationOld] != 2 || n[cloud.GenerationNew] != 1 {
		t.Fatalf("after a detach: %v", n)
	}
	young := slices.DeleteFunc(ids(g), func(id string) bool { return slices.Contains(before, id) })
	twice(t, "undo the surge", func() error { return o.UndoSurge(t.Context(), g.ID, []string{first}, young) })
	g = group()
	if diff := cmp.Diff(before, ids(g)); diff != "" {
		t.Errorf("instances after the surge was taken back (-want +got):\n%s", diff)
	}
	if g.Min != 2 || g.Desired != 2 || slices.ContainsFunc(g.Instances, func(i cloud.Instance) bool { return i.Detached }) {
		t.Errorf("group after the surge was taken back: %+v", g)
	}

	twice(t, "terminate", func() error { return o.Terminate(t.Context(), first) })
	if g = group(); slices.Contains(ids(g), first) || len(ids(g)) != 2 {
		t.Errorf("instances after a termination: %v", ids(g))
	}

	member := ids(groupNamed(t, observe(t, w.Cluster), "control-plane-a"))[0]
	behind := func() (n int) {
		for _, l := range observe(t, w.Cluster).LoadBalancers[0].Listeners {
			if slices.ContainsFunc(l.Targets, func(x cloud.Target) bool { return x.ID == member && x.Health == cloud.TargetHealthy }) {
				n++
			}
		}
		return n
	}
	if behind() != 2 {
		t.Fatalf("the control-plane node is behind %d ports", behind())
	}
	twice(t, "deregister", func() error { return o.Deregister(t.Context(), member) })
	if behind() != 0 {
		t.Errorf("deregistered, it is behind %d ports", behind())
	}
	twice(t, "register", func() error { return o.Register(t.Context(), member) })
	if behind() != 2 {
		t.Errorf("registered again, it is behind %d ports", behind())
	}
}

func TestAWSTouchesNothingOfAnotherCluster(t *testing.T) {
	awstest.Start(t)
	w := awstest.NewWorld(t, "lyra.k8s.local", awstest.ClassicBalancer)
	w.AddGroup(gossiping, 1)
	o := operate(t, "vega.k8s.local")
	g := groupNamed(t, observe(t, w.Cluster), "nodes-a")
	for what, do := range map[string]func() error{
		"terminate": func() error { return o.Terminate(t.Context(), g.Instances[0].ID) },
		"detach":    func() error { return o.Detach(t.Context(), g.Instances[0].ID) },
		"surge":     func() error { return o.UndoSurge(t.Context(), g.ID, []string{g.Instances[0].ID}, nil) },
		"put":       func() error { return o.PutPolicy(t.Context(), "nodes."+w.Cluster, "p", "{}") },
		"delete":    func() error { return o.DeletePolicy(t.Context(), "nodes."+w.Cluster, "nodes."+w.Cluster) },
		"versions":  func() error { _, err := o.DropVersions(t.Context(), g.Template.ID, "1"); return err },
		"classic":   func() error { return o.DeleteClassic(t.Context(), "api-classic") },
	} {
		if err := do(); !errors.Is(err, cloud.ErrUsage) || !strings.Contains(err.Error(), "left alone") {
			t.Errorf("%s: got %v, want a refusal", what, err)
		}
	}
	if closed, err := o.ClosePorts(t.Context(), []int{3999}); err != nil || len(closed) > 0 {
		t.Errorf("closed %v, %v in another cluster's security groups", closed, err)
	}
	if after := groupNamed(t, observe(t, w.Cluster), "nodes-a"); !slices.Equal(ids(after), ids(g)) {
		t.Errorf("instances %v became %v", ids(g), ids(after))
	}
}

func TestAWSContractsOnce(t *testing.T) {
	awstest.Start(t)
	w := awstest.NewWorld(t, "lyra.k8s.local", awstest.ClassicBalancer)
	w.AddGroup(gossiping, 1)
	w.Update(addressed)
	w.Allow("control-plane", "udp", 1, 65535, "nodes", "")
	o := operate(t, w.Cluster)
	role := "nodes." + w.Cluster
	policies := func() int { return len(observe(t, w.Cluster).Roles[0].Policies) }

	twice(t, "put a policy", func() error {
		return o.PutPolicy(t.Context(), role, "bridge", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:DescribeInstances","Resource":"*"}]}`)
	})
	if policies() != 2 {
		t.Errorf("%d policies with the bridge", policies())
	}
	twice(t, "delete a policy", func() error { return o.DeletePolicy(t.Context(), role, "bridge") })
	if policies() != 1 {
		t.Errorf("%d policies without the bridge", policies())
	}

	for _, port := range []int32{3993, 3998, 3999, 4000} {
		if !lets(t, w, port) {
			t.Fatalf("port %d is closed from the beginning", port)
		}
	}
	twice(t, "close ports", func() error { _, err := o.ClosePorts(t.Context(), []int{3993, 3998, 3999, 4000}); return err })
	for port, want := range map[int32]bool{3993: false, 3998: false, 3999: false, 4000: false, 2382: true, 3988: true, 3992: true, 3994: true, 3997: true, 2379: true} {
		if lets(t, w, port) != want {
			t.Errorf("port %d is open: %v, want %v", port, !want, want)
		}
	}

	id := groupNamed(t, observe(t, w.Cluster), "nodes-a").Template.ID
	dropped := 0
	twice(t, "drop versions", func() error { n, err := o.DropVersions(t.Context(), id, "2"); dropped += n; return err })
	if older := groupNamed(t, observe(t, w.Cluster), "nodes-a").Template.Older; dropped != 1 || older != 0 {
		t.Errorf("%d versions dropped, %d older ones left", dropped, older)
	}
	twice(t, "delete the classic load balancer", func() error { return o.DeleteClassic(t.Context(), "api-classic") })
}

// lets reports whether TCP rules let workers reach a port of the control plane.
func lets(t *testing.T, w *awstest.World, port int32) bool {
	t.Helper()
	out, err := w.EC2.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{w.SecurityGroups["control-plane"]}})
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(out.SecurityGroups[0].IpPermissions, func(p ec2types.IpPermission) bool {
		from := slices.ContainsFunc(p.UserIdGroupPairs, func(x ec2types.UserIdGroupPair) bool { return *x.GroupId == w.SecurityGroups["nodes"] })
		return from && *p.IpProtocol == "tcp" && awssdk.ToInt32(p.FromPort) <= port && port <= awssdk.ToInt32(p.ToPort)
	})
}
