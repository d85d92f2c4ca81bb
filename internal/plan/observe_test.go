package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

const lyra = `apiVersion: kops.k8s.io/v1alpha2
kind: Cluster
metadata: {name: lyra.k8s.local}
spec:
  api: {loadBalancer: {class: Network, type: Public}}
  cloudProvider: aws
  networkCIDR: 10.80.0.0/16
  subnets: [{cidr: 10.80.0.0/19, name: a, type: Public, zone: us-east-1a}]
---
apiVersion: kops.k8s.io/v1alpha2
kind: InstanceGroup
metadata: {name: masters}
spec: {role: Master, minSize: 1, maxSize: 1, subnets: [a]}
---
apiVersion: kops.k8s.io/v1alpha2
kind: InstanceGroup
metadata: {name: nodes}
spec: {role: Node, minSize: 2, maxSize: 4, subnets: [a]}
`

func lyraSpec(t *testing.T, edit ...string) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Parse("lyra.yaml", []byte(strings.NewReplacer(edit...).Replace(lyra)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// asNone is the edit that makes lyra a cluster whose spec asks for None.
var asNone = []string{"  networkCIDR", "  topology: {dns: {type: None}}\n  networkCIDR"}

var (
	bootGossip    = &cloud.BootConfig{ConfigBase: "s3://state/lyra.k8s.local"}
	bootAddresses = &cloud.BootConfig{Servers: []string{"https://10.80.0.9:3988/"}, APIServerIPs: []string{"10.80.0.9"}}
	bootName      = &cloud.BootConfig{Servers: []string{"https://kops-controller.internal.lyra.k8s.local:3988/"}}
)

// lyraSeen is a complete observation of lyra: everything gossips.
func lyraSeen() (*cloud.Observation, Stored) {
	instance := func(id string) cloud.Instance {
		return cloud.Instance{ID: id, State: "running", Generation: cloud.GenerationNew}
	}
	healthy := []cloud.Target{{ID: "m1", Health: cloud.TargetHealthy}}
	return &cloud.Observation{
			Cluster: "lyra.k8s.local", Cloud: cluster.AWS,
			Groups: []cloud.Group{
				{Name: "masters", Role: cluster.RoleControlPlane, Template: cloud.Template{Version: "1", Boot: bootGossip}, Instances: []cloud.Instance{instance("m1")}},
				{Name: "nodes", Role: cluster.RoleNode, Template: cloud.Template{Version: "1", Boot: bootGossip}, Instances: []cloud.Instance{instance("w1"), instance("w2")}},
			},
			LoadBalancers: []cloud.LoadBalancer{{
				Name: "api", Class: "network", Addresses: []netip.Addr{netip.MustParseAddr("10.80.0.9"), netip.MustParseAddr("10.80.32.9"), netip.MustParseAddr("198.51.100.7")},
				Listeners: []cloud.Listener{{Port: 443, Targets: healthy}},
			}},
			Network: cloud.Network{Rules: []cloud.Rule{{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Protocol: "all", High: 65535}}},
			Roles: []cloud.Role{{Name: "nodes.lyra.k8s.local", Roles: []cluster.Role{cluster.RoleNode}, Kind: cloud.KindPolicy, Policies: map[string]string{"nodes": `{
				"Version": "2012-10-17", "Statement": [
				{"Effect": "Allow", "Action": ["ec2:DescribeInstances"], "Resource": "*"},
				{"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::state/lyra.k8s.local/igconfig/node/*"}]}`}}},
		}, Stored{
			Rendered:   map[string]bool{"masters": false, "nodes": false},
			Controller: cloud.Yes,
		}
}

func TestFromObservation(t *testing.T) {
	seen := State{
		Members: Members{GossipKnown: 1}, Templates: Set(Gossip), Live: Set(Gossip),
		Network: true, API: true, Lookup: true, Controller: true, Ports: true,
	}
	state := func(change func(s *State)) State {
		s := seen
		change(&s)
		return s
	}
	for name, test := range map[string]struct {
		spec   []string
		change func(o *cloud.Observation, s *Stored)
		want   []State
	}{
		"everything seen is one state": {want: []State{seen}},
		"a half-rolled group has both classes": {
			change: func(o *cloud.Observation, _ *Stored) {
				g := &o.Groups[1]
				g.Template = cloud.Template{Version: "2", Older: 1, Boot: bootAddresses}
				g.Instances[0].Generation, g.Instances[0].Boot = cloud.GenerationOld, bootGossip
				o.LoadBalancers[0].Listeners = append(o.LoadBalancers[0].Listeners, cloud.Listener{Port: 3988, Targets: o.LoadBalancers[0].Listeners[0].Targets})
			},
			want: []State{state(func(s *State) {
				s.Templates, s.Live, s.Config, s.Old = Set(Hybrid), Set(Gossip, Hybrid), true, true
			})},
		},
		"another image does not change what a node is": {
			spec: []string{"type: Private", "type: None"},
			change: func(o *cloud.Observation, s *Stored) {
				s.Rendered["nodes"], s.Controller = true, cloud.No
				booted := *bootAddresses
				booted.ConfigHash = "bm9uZQ=="
				g := &o.Groups[1]
				g.Template = cloud.Template{Version: "2", Older: 1, Boot: &booted}
				g.Instances[0].Generation, g.Instances[0].Boot = cloud.GenerationOld, &booted
			},
			want: []State{state(func(s *State) {
				s.None, s.Templates, s.Live, s.Old, s.Controller = true, Set(None), Set(None), true, false
			})},
		},
		"a name that nothing resolves": {
			change: func(o *cloud.Observation, _ *Stored) {
				o.Groups[1].Template.Boot = bootName
				for i := range o.Groups[1].Instances {
					o.Groups[1].Instances[i].Generation, o.Groups[1].Instances[i].Boot = cloud.GenerationOld, bootGossip
				}
			},
			want: []State{state(func(s *State) { s.Templates = Set(Unresolved) })},
		},
		"an instance of unknown birth may be anything": {
			change: func(o *cloud.Observation, _ *Stored) { o.Groups[1].Instances[0].Generation = cloud.GenerationUnknown },
			want:   []State{state(func(s *State) { s.Live = Set(Gossip, Hybrid) })},
		},
		"a template that could not be read is each of three": {
			change: func(o *cloud.Observation, _ *Stored) {
				o.Groups[1].Template.Boot = nil
				for i := range o.Groups[1].Instances {
					o.Groups[1].Instances[i].Generation, o.Groups[1].Instances[i].Boot = cloud.GenerationOld, bootGossip
				}
			},
			want: []State{seen, state(func(s *State) { s.Templates = Set(Unresolved) }), state(func(s *State) { s.Templates = Set(Hybrid) })},
		},
		"target health that could not be read is both": {
			change: func(o *cloud.Observation, _ *Stored) { o.LoadBalancers[0].Listeners[0].Targets = nil },
			want:   []State{seen, state(func(s *State) { s.API = false })},
		},
		"a target that is unhealthy is not served": {
			change: func(o *cloud.Observation, _ *Stored) {
				o.LoadBalancers[0].Listeners[0].Targets = []cloud.Target{{Health: cloud.TargetUnhealthy}}
			},
			want: []State{state(func(s *State) { s.API = false })},
		},
		"a role that could not be read is both": {
			change: func(o *cloud.Observation, _ *Stored) { o.Roles = nil },
			want:   []State{seen, state(func(s *State) { s.Lookup = false })},
		},
		"a role that cannot be understood is both": {
			change: func(o *cloud.Observation, _ *Stored) { o.Roles[0].Policies["nodes"] = "{" },
			want:   []State{seen, state(func(s *State) { s.Lookup = false })},
		},
		"a role without the store is narrow": {
			change: func(o *cloud.Observation, _ *Stored) {
				o.Roles[0].Policies["nodes"] = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}]}`
			},
			want: []State{state(func(s *State) { s.Lookup = false })},
		},
		"an unknown add-on is both": {
			change: func(_ *cloud.Observation, s *Stored) { s.Controller = "" },
			want:   []State{seen, state(func(s *State) { s.Controller = false })},
		},
		"a classic load balancer serves no node": {
			change: func(o *cloud.Observation, _ *Stored) { o.LoadBalancers[0].Class = "classic" },
			want:   []State{state(func(s *State) { s.Classic, s.Network, s.API = true, false, false })},
		},
		"instances that are going do not count": {
			change: func(o *cloud.Observation, _ *Stored) {
				o.Groups[1].Instances = append(o.Groups[1].Instances, cloud.Instance{ID: "w3", State: "shutting-down", Generation: cloud.GenerationUnknown})
			},
			want: []State{seen},
		},
		"None that was not rendered yet gossips on": {
			spec: asNone,
			want: []State{state(func(s *State) { s.None = true })},
		},
		"None whose renderings are not known is several": {
			spec: asNone,
			change: func(_ *cloud.Observation, s *Stored) {
				delete(s.Rendered, "masters")
			},
			want: []State{
				state(func(s *State) { s.None = true }),
				state(func(s *State) { s.None, s.Members = true, Members{QuietStale: 1} }),
				state(func(s *State) { s.None, s.Quiet = true, true }),
				state(func(s *State) { s.None, s.Quiet, s.Members = true, true, Members{QuietStale: 1} }),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, stored := lyraSeen()
			if test.change != nil {
				test.change(o, &stored)
			}
			p, err := FromObservation(lyraSpec(t, test.spec...), cluster.Release135, stored, o, Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []State
			for _, s := range p.Starts {
				got = append(got, s.State)
				if (len(p.Starts) > 1) != (len(s.Assumes) > 0) {
					t.Errorf("%d starts, and this one assumes %q", len(p.Starts), s.Assumes)
				}
			}
			normal := func(states []State) (keys []string) {
				for _, s := range states {
					m := s.Members // whether records are stale before anything happened is a detail
					s.Members = Members{GossipKnown: m.gossiping(), QuietKnown: m.quiet()}
					keys = append(keys, s.String()+" "+s.Templates.String())
				}
				slices.Sort(keys)
				return keys
			}
			if diff := cmp.Diff(normal(test.want), normal(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if p.BalancerAddresses != 2 && o.LoadBalancers[0].Class == "network" {
				t.Errorf("%d addresses of the load balancer, want the 2 that nodes can reach", p.BalancerAddresses)
			}
			if _, err := Find(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAReleaseWithoutGossipHasNoPlanForIt(t *testing.T) {
	for name, test := range map[string]struct {
		spec []string
		r    cluster.Release
		ask  Options
		want string // prefix of the reason; empty for a plan
	}{
		"a cluster that gossips":           {nil, cluster.Release137, Options{}, "lyra.k8s.local gossips, and kOps 1.37 refuses gossip clusters; plan for the release that configured its nodes (plan -f: --kops-version 1.36), and go back to 1.36 if a newer one has touched it"},
		"a cluster that is to gossip":      {asNone, cluster.Release137, Options{To: cluster.Gossip}, "kOps 1.37 refuses gossip clusters, hybrid ones too; only under kOps 1.36 can this one become gossip"},
		"a cluster that is none and stays": {asNone, cluster.Release137, Options{}, ""},
		"the release before":               {nil, cluster.Release136, Options{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pl, err := Find(t.Context(), FromSpec(lyraSpec(t, test.spec...), test.r, test.ask))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if pl.Refused != nil {
				got = pl.Refused.Why
			}
			if got != test.want {
				t.Errorf("refused %q, want %q", got, test.want)
			}
		})
	}
}

func TestWhatCannotBePlannedForSaysWhy(t *testing.T) {
	o, stored := lyraSeen()
	o.Groups[0].Instances = nil
	if _, err := FromObservation(lyraSpec(t), cluster.Release135, stored, o, Options{}); err == nil || !strings.Contains(err.Error(), "no control-plane node was observed") {
		t.Errorf("error %v, want that no control-plane node was observed", err)
	}

	o, _ = lyraSeen()
	o.Roles, o.LoadBalancers[0].Listeners[0].Targets = nil, nil
	for range 4 {
		g := o.Groups[1]
		g.Name += "x"
		g.Template.Boot = nil
		o.Groups = append(o.Groups, g)
	}
	o.Gaps = []cloud.Gap{{What: "boot configuration", Subject: "nodesx", Why: "denied"}}
	if p, err := FromObservation(lyraSpec(t), cluster.Release135, Stored{}, o, Options{}); err == nil && len(p.Starts) > maxStarts {
		t.Errorf("%d starts without an error", len(p.Starts))
	}

	spec := lyraSpec(t, "metadata: {name: nodes}", "metadata: {name: extra}\nspec: {role: APIServer, minSize: 1, maxSize: 1, subnets: [a]}\n---\napiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: nodes}")
	pl, err := Find(t.Context(), FromSpec(spec, cluster.Release135, Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if pl.Refused == nil || !strings.Contains(pl.Refused.Why, "kOps refuses role APIServer with DNS type None") {
		t.Errorf("refused %+v, want the APIServer group named", pl.Refused)
	}
}
