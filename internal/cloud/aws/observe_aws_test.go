package aws_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

const root = "../../.."

var (
	controlPlane = awstest.UserData{Release: "1.36.2", Group: "control-plane-a", Role: "ControlPlane"}
	gossiping    = awstest.UserData{Release: "1.35.2", Group: "nodes-a", Role: "Node"}
	addressed    = awstest.UserData{Release: "1.36.2", Group: "nodes-a", Role: "Node", Addresses: []string{awstest.BalancerAddress}}
)

func observe(t *testing.T, name string) *cloud.Observation {
	t.Helper()
	p, err := aws.New(t.Context(), aws.Config{Cluster: name})
	if err != nil {
		t.Fatal(err)
	}
	o, err := p.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func groupNamed(t *testing.T, o *cloud.Observation, name string) cloud.Group {
	t.Helper()
	for _, g := range o.Groups {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no group %s in %+v", name, o.Groups)
	return cloud.Group{}
}

// count counts the instances of each generation.
func count(g cloud.Group) map[cloud.Generation]int {
	n := map[cloud.Generation]int{}
	for _, i := range g.Instances {
		n[i.Generation]++
	}
	return n
}

func TestAWSObservesAClusterHalfWayThroughARoll(t *testing.T) {
	awstest.Start(t)
	w := awstest.NewWorld(t, "lyra.k8s.local", awstest.NetworkBalancer)
	w.AddGroup(controlPlane, 1)
	w.AddGroup(gossiping, 3)
	w.Update(addressed)
	old := w.InstanceIDs(gossiping)
	w.Detach(gossiping, old[0])

	o := observe(t, "lyra.k8s.local")
	if len(o.Gaps) > 0 {
		t.Errorf("gaps: %v", o.Gaps)
	}
	g := groupNamed(t, o, "nodes-a")
	if diff := cmp.Diff(map[cloud.Generation]int{cloud.GenerationOld: 3, cloud.GenerationNew: 1}, count(g)); diff != "" {
		t.Errorf("generations (-want +got):\n%s", diff)
	}
	for _, i := range g.Instances {
		if want := i.ID == old[0]; i.Detached != want {
			t.Errorf("instance %s: detached %v, want %v", i.ID, i.Detached, want)
		}
		if i.Generation == cloud.GenerationOld && bootconfig.Path(i.Boot) != cloud.BootGossip {
			t.Errorf("old instance %s boots by %s, want gossip", i.ID, bootconfig.Path(i.Boot))
		}
		if !i.Addr.IsValid() || i.Zone != "us-east-1a" || i.State != "running" || i.Launched.IsZero() {
			t.Errorf("instance %+v lacks something", i)
		}
	}
	if g.Role != cluster.RoleNode || g.Template.Version != "2" || g.Template.Older != 1 || g.Template.Permissions != "nodes.lyra.k8s.local" ||
		bootconfig.Path(g.Template.Boot) != cloud.BootAddresses || g.Template.Hash == "" {
		t.Errorf("group %+v", g)
	}

	if len(o.LoadBalancers) != 1 {
		t.Fatalf("load balancers %+v", o.LoadBalancers)
	}
	lb := o.LoadBalancers[0]
	if lb.Class != "network" || lb.Scheme != "public" || !slices.Equal(lb.Addresses, []netip.Addr{netip.MustParseAddr(awstest.BalancerAddress)}) {
		t.Errorf("load balancer %+v", lb)
	}
	for port, check := range map[int]string{443: "TCP", 3988: "HTTPS /healthz"} {
		if l, ok := lb.Listener(port); !ok || l.Check != check || l.Healthy() != 1 {
			t.Errorf("listener %d: %+v", port, l)
		}
	}
	wantRoles := []cloud.Role{
		{Name: "masters.lyra.k8s.local", Roles: []cluster.Role{cluster.RoleControlPlane}, Kind: cloud.KindPolicy},
		{Name: "nodes.lyra.k8s.local", Roles: []cluster.Role{cluster.RoleNode}, Kind: cloud.KindPolicy},
	}
	for n, r := range o.Roles {
		if !strings.Contains(r.Policies[r.Name], `"ec2:DescribeInstances"`) {
			t.Errorf("role %s has policies %v", r.Name, r.Policies)
		}
		o.Roles[n].Policies = nil
	}
	if diff := cmp.Diff(wantRoles, o.Roles); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		from, to string
		port     int
		want     cloud.Answer
	}{
		{cloud.PartyWorkers, cloud.PartyLoadBalancer, 3988, cloud.Yes},
		{cloud.PartyWorld, cloud.PartyLoadBalancer, 443, cloud.Yes},
		{cloud.PartyWorld, cloud.PartyLoadBalancer, 3988, cloud.No},
		{cloud.PartyLoadBalancer, cloud.PartyControlPlane, 3988, cloud.Yes},
		{cloud.PartyWorkers, cloud.PartyControlPlane, 3999, cloud.Yes},
		{cloud.PartyWorkers, cloud.PartyControlPlane, 2380, cloud.No},
	} {
		if got := o.Network.Allows(tt.from, tt.to, "tcp", tt.port); got != tt.want {
			t.Errorf("%s to %s port %d: %s, want %s", tt.from, tt.to, tt.port, got, tt.want)
		}
	}
	for _, c := range o.Calls {
		if c.Err != "" || c.Permission != c.Action {
			t.Errorf("call %+v", c)
		}
	}
}

func TestAWSGenerationsCompareContentsWhereVersionsDiffer(t *testing.T) {
	awstest.Start(t)
	w := awstest.NewWorld(t, "lyra.k8s.local", awstest.NoBalancer)
	w.AddGroup(controlPlane, 1)
	w.AddGroup(gossiping, 2)
	w.Update(gossiping) // kOps makes versions that change nothing
	o := observe(t, "lyra.k8s.local")
	if diff := cmp.Diff(map[cloud.Generation]int{cloud.GenerationNew: 2}, count(groupNamed(t, o, "nodes-a"))); diff != "" {
		t.Errorf("generations (-want +got):\n%s", diff)
	}
	if len(o.LoadBalancers) > 0 || len(o.Gaps) > 0 {
		t.Errorf("load balancers %+v, gaps %v; want none: it was looked for", o.LoadBalancers, o.Gaps)
	}
}

func TestAWSObservesAClassicLoadBalancer(t *testing.T) {
	awstest.Start(t)
	w := awstest.NewWorld(t, "lyra.k8s.local", awstest.ClassicBalancer)
	w.AddGroup(controlPlane, 1)
	o := observe(t, "lyra.k8s.local")
	if len(o.LoadBalancers) != 1 || o.LoadBalancers[0].Class != "classic" {
		t.Fatalf("load balancers %+v", o.LoadBalancers)
	}
	if l, ok := o.LoadBalancers[0].Listener(443); !ok || len(l.Targets) != 1 || l.Targets[0].Health != cloud.TargetHealthy {
		t.Errorf("listener %+v", l)
	}
	if len(o.Gaps) != 1 || o.Gaps[0].What != "addresses" {
		t.Errorf("gaps %v, want one about addresses", o.Gaps)
	}
}

// kOps leaves the classic load balancer behind, without targets, when it makes the
// network one; those of Services carry the cluster's tag, too.
func TestAWSFindsTheClassicLoadBalancerThatNoGroupJoinsAndNoServices(t *testing.T) {
	for _, with := range []string{awstest.NetworkBalancer, awstest.NoBalancer} {
		t.Run("beside "+with, func(t *testing.T) {
			awstest.Start(t)
			w := awstest.NewWorld(t, "lyra.k8s.local", with)
			w.AddGroup(controlPlane, 1)
			w.AddClassic("api-lyra-k8s-local-4f", "api.lyra.k8s.local")
			w.AddClassic("api-of-the-shop", "shop")
			w.AddClassic("a0c1d2e3f4", "")
			o := observe(t, w.Cluster)
			var classic []string
			for _, lb := range o.LoadBalancers {
				if lb.Class != "classic" {
					continue
				}
				classic = append(classic, lb.Name)
				if l, ok := lb.Listener(443); !ok || l.Targets == nil || len(l.Targets) > 0 {
					t.Errorf("listener of %s: %+v; want one without targets", lb.Name, l)
				}
			}
			if want := []string{"api-lyra-k8s-local-4f"}; !slices.Equal(classic, want) {
				t.Errorf("classic load balancers %v, want %v", classic, want)
			}
			if err := operate(t, w.Cluster).DeleteClassic(t.Context(), "api-of-the-shop"); !errors.Is(err, cloud.ErrUsage) {
				t.Errorf("a Service's load balancer is deleted: %v; want a refusal", err)
			}
		})
	}
}

func TestAWSSeedsAreTheControlPlaneAlone(t *testing.T) {
	awstest.Start(t)
	w := awstest.NewWorld(t, "lyra.k8s.local", awstest.NoBalancer)
	w.AddGroup(controlPlane, 3)
	w.AddGroup(gossiping, 2)
	other := awstest.NewWorld(t, "vega.k8s.local", awstest.NoBalancer)
	other.AddGroup(controlPlane, 1)
	p, err := aws.New(t.Context(), aws.Config{Cluster: "lyra.k8s.local"})
	if err != nil {
		t.Fatal(err)
	}
	seeds, err := p.Seeds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Addr
	for _, i := range groupNamed(t, observe(t, "lyra.k8s.local"), "control-plane-a").Instances {
		want = append(want, i.Addr)
	}
	slices.SortFunc(want, netip.Addr.Compare)
	if len(seeds) != 3 || !slices.Equal(seeds, want) {
		t.Errorf("seeds %v, want %v", seeds, want)
	}
}

func TestAWSAMissingCluster(t *testing.T) {
	awstest.Start(t)
	p, err := aws.New(t.Context(), aws.Config{Cluster: "nobody.k8s.local"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Seeds(t.Context()); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("Seeds: %v", err)
	}
	if o, err := p.Observe(t.Context()); !errors.Is(err, cloud.ErrNotFound) || !strings.Contains(err.Error(), "region") {
		t.Errorf("Observe: %+v, %v", o, err)
	}
}

// TestAWSSamples: what real kOps built is what its description says.
func TestAWSSamples(t *testing.T) {
	names := awstest.Samples(t, root)
	url := awstest.Start(t)
	type summary struct {
		path     cloud.BootPath // of the workers
		workers  int
		masters  int
		balancer string // class and healthy targets behind 443 and 3988
	}
	// moto keeps only one group's instances behind a classic load balancer.
	want := map[string]summary{
		"gossip-1.35":                 {cloud.BootGossip, 3, 3, "network 3 0"},
		"gossip-1.35-classic-lb":      {cloud.BootGossip, 2, 3, "classic 1 0"},
		"gossip-1.35-no-lb":           {cloud.BootGossip, 2, 1, ""},
		"hybrid-1.36":                 {cloud.BootAddresses, 3, 3, "network 3 3"},
		"hybrid-1.36-empty-endpoints": {cloud.BootName, 3, 3, "network 3 3"},
		"none-1.36":                   {cloud.BootAddresses, 3, 3, "network 3 3"},
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			awstest.LoadSample(t, root, url, name)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			p, err := aws.New(ctx, aws.Config{Cluster: awstest.SampleCluster(t, root, name)})
			if err != nil {
				t.Fatal(err)
			}
			o, err := p.Observe(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var got summary
			for _, g := range o.Groups {
				switch g.Role {
				case cluster.RoleNode:
					got.path, got.workers = bootconfig.Path(g.Template.Boot), got.workers+len(g.Instances)
				case cluster.RoleControlPlane:
					got.masters += len(g.Instances)
				}
			}
			if len(o.LoadBalancers) > 0 {
				lb := o.LoadBalancers[0]
				a, _ := lb.Listener(443)
				b, _ := lb.Listener(3988)
				got.balancer = lb.Class + " " + string(rune('0'+a.Healthy())) + " " + string(rune('0'+b.Healthy()))
			}
			if got != want[name] {
				t.Errorf("got %+v, want %+v; gaps %v", got, want[name], o.Gaps)
			}
			t.Logf("gaps: %v; %d calls", o.Gaps, len(o.Calls))
		})
	}
}
