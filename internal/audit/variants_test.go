package audit

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
)

// replaced replaces a part of s, which must be there.
func replaced(t *testing.T, s, old, by string) string {
	t.Helper()
	if !strings.Contains(s, old) {
		t.Fatalf("the sample holds no %q", old)
	}
	return strings.ReplaceAll(s, old, by)
}

// variant is a real cluster with one change.
type variant struct {
	name   string
	sample string
	dump   func(*testing.T, *dump) // changes the sample
	in     func(*Input)            // changes the observation
	strict bool

	joinable Joinable // of a new worker
	broken   string
	reboot   Joinable // of a worker of the older generation, if there is one
	finds    []string // ID and severity of additional findings
	loses    []string // IDs of the sample's findings that disappear
	fails    bool     // whether a finding of at least high is open
}

// TestRealClustersWithOneThingChanged audits clusters as kOps built them with one fault,
// or with something unusual that is not a fault.
func TestRealClustersWithOneThingChanged(t *testing.T) {
	unchanged := map[string]Report{}
	for _, tt := range variants() {
		t.Run(tt.name, func(t *testing.T) {
			before, ok := unchanged[tt.sample]
			if !ok {
				before = Run(sample(t, tt.sample), nil)
				unchanged[tt.sample] = before
			}
			in := edited(t, tt.sample, func(d *dump) {
				if tt.dump != nil {
					tt.dump(t, d)
				}
			})
			if tt.in != nil {
				tt.in(&in)
			}
			in.Strict = tt.strict
			r := Run(in, nil)
			g := groupNamed(t, r, "nodes-us-east-1a")
			if g.Joinable != tt.joinable || g.BrokenLink != tt.broken {
				t.Errorf("a new worker %s, broken %q; want %s, broken %q; %v", g.Joinable, g.BrokenLink, tt.joinable, tt.broken, g.Evidence)
			}
			reboot := Joinable("")
			if len(g.Reboots) > 0 {
				reboot = g.Reboots[0].Joinable
			}
			if reboot != tt.reboot {
				t.Errorf("an older worker %q after a reboot; want %q; %+v", reboot, tt.reboot, g.Reboots)
			}
			finds, loses := difference(r, before), difference(before, r)
			for i, f := range loses {
				loses[i], _, _ = strings.Cut(f, " ")
			}
			if diff := cmp.Diff(tt.finds, finds); diff != "" {
				t.Errorf("new findings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.loses, loses); diff != "" {
				t.Errorf("findings that go away (-want +got):\n%s", diff)
			}
			if fails := len(r.Open(High)) > 0; fails != tt.fails {
				t.Errorf("ends with findings: %v; want %v", fails, tt.fails)
			}
		})
	}
}

// TestWhatKopsGrantsIsEnough checks the table of needs: a need that kOps itself does not
// grant is a mistake in it.
func TestWhatKopsGrantsIsEnough(t *testing.T) {
	for _, name := range []string{"gossip-1.35", "gossip-1.35-classic-lb", "gossip-1.35-no-lb", "hybrid-1.36", "hybrid-1.36-empty-endpoints", "none-1.36"} {
		in := sample(t, name)
		release, _ := in.release()
		for _, role := range in.Cloud.Roles {
			held, err := iam.PoliciesOf(role)
			if err != nil {
				t.Fatal(err)
			}
			terms := iam.Terms{
				Role: role.Roles[0], Topology: in.Topology(), Release: release, Cluster: in.Spec.Name,
				State: "kops-state/" + in.Spec.Name, Partition: iam.PartitionOf(held), Region: "us-east-1",
			}
			got, err := iam.CompareRole(in.Spec.Cloud, role, terms)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range got.Missing {
				t.Errorf("%s, %s: kOps does not grant %v on %v, which %s is said to need", name, role.Name, n.Actions, n.Resources, n.Caller)
			}
		}
	}
}

// difference returns ID and severity of findings that only the first report has.
func difference(r, other Report) (only []string) {
	for _, f := range r.Findings {
		if !slices.Contains(ids(other), f.ID) {
			only = append(only, f.ID+" "+string(f.Severity))
		}
	}
	slices.Sort(only)
	return slices.Compact(only)
}

func variants() []variant {
	const (
		first    = "https://172.20.0.250:3988/"
		second   = "https://172.20.128.250:3988/"
		noBroken = ""
	)
	lost := []string{"MU501 critical"}
	userData := func(old, by string) func(*testing.T, *dump) {
		return func(t *testing.T, d *dump) {
			t.Helper()
			for i, lt := range d.LaunchTemplates {
				if strings.HasPrefix(lt.Name, "nodes") {
					d.LaunchTemplates[i].UserData = replaced(t, lt.UserData, old, by)
				}
			}
		}
	}
	spec := func(old, by string) func(*testing.T, *dump) {
		return func(t *testing.T, d *dump) { t.Helper(); d.Spec = replaced(t, d.Spec, old, by) }
	}
	object := func(suffix, text string) func(*testing.T, *dump) {
		return func(t *testing.T, d *dump) {
			t.Helper()
			for key := range d.Store.Objects {
				if strings.HasSuffix(key, suffix) {
					if d.Store.Objects[key] = text; text == "" {
						delete(d.Store.Objects, key)
					}
					return
				}
			}
			t.Fatalf("the sample's store holds no %s", suffix)
		}
	}
	// without removes the rules of security groups that allow a port.
	without := func(prefix string, port int) func(*testing.T, *dump) {
		return func(_ *testing.T, d *dump) {
			for i, g := range d.SecurityGroups {
				if strings.HasPrefix(g.Name, prefix) {
					rules := d.SecurityGroups[i].Ingress[:0]
					for _, r := range g.Ingress {
						if r.IPProtocol != "-1" && (r.FromPort > port || r.ToPort < port) {
							rules = append(rules, r)
						}
					}
					d.SecurityGroups[i].Ingress = rules
				}
			}
		}
	}
	// lacks removes the actions with a prefix from the workers' role.
	lacks := func(prefix string) func(*testing.T, *dump) {
		return func(t *testing.T, d *dump) {
			t.Helper()
			for i, r := range d.Roles {
				if !strings.HasPrefix(r.Name, "nodes") {
					continue
				}
				for name, doc := range r.Inline {
					d.Roles[i].Inline[name] = json.RawMessage(replaced(t, string(doc), `"`+prefix, `"gone:`))
				}
			}
		}
	}
	listeners := func(change func(*cloud.Listener)) func(*Input) {
		return func(in *Input) {
			for i := range in.Cloud.LoadBalancers[0].Listeners {
				change(&in.Cloud.LoadBalancers[0].Listeners[i])
			}
		}
	}
	health := func(port int, h cloud.TargetHealth) func(*Input) {
		return listeners(func(l *cloud.Listener) {
			for i := range l.Targets {
				if l.Port == port {
					l.Targets[i].Health = h
				}
			}
		})
	}
	noListener := func(port int) func(*Input) {
		return func(in *Input) {
			lb := &in.Cloud.LoadBalancers[0]
			lb.Listeners = slices.DeleteFunc(lb.Listeners, func(l cloud.Listener) bool { return l.Port == port })
		}
	}
	workers := func(change func(*Input, *cloud.Group)) func(*Input) {
		return func(in *Input) {
			for i := range in.Cloud.Groups {
				if in.Cloud.Groups[i].Name == "nodes-us-east-1a" {
					change(in, &in.Cloud.Groups[i])
				}
			}
		}
	}
	gone := func(why string, template bool) func(*Input) {
		return workers(func(in *Input, g *cloud.Group) {
			if g.Template.Boot = nil; template {
				g.Template = cloud.Template{}
			}
			in.Cloud.Gaps = append(in.Cloud.Gaps, cloud.Gap{What: "boot configuration", Subject: g.Name, Why: why, Absent: true})
		})
	}
	served := func(names ...string) func(*Input) {
		return func(in *Input) {
			in.Probes = &Probes{TLSNames: map[string][]string{"172.20.0.250:3988": names}}
		}
	}
	stopped := func(in *Input) {
		for i, g := range in.Cloud.Groups {
			for j := range g.Instances {
				if g.Role == cluster.RoleControlPlane {
					in.Cloud.Groups[i].Instances[j].State = "stopped"
				}
			}
		}
	}
	h, g, n := "hybrid-1.36", "gossip-1.35", "none-1.36"
	return []variant{
		// The boot configuration.
		{name: "user-data for another cluster", sample: h, dump: userData("ClusterName: atlas.k8s.local", "ClusterName: other.k8s.local"), joinable: DoesNotJoin, broken: LinkBoot, finds: lost, fails: true},
		{name: "user-data for another group", sample: h, dump: userData("InstanceGroupName: nodes-us-east-1a", "InstanceGroupName: gpu"), joinable: DoesNotJoin, broken: LinkBoot, finds: lost, fails: true},
		{name: "user-data for another role", sample: h, dump: userData("InstanceGroupRole: Node", "InstanceGroupRole: APIServer"), joinable: DoesNotJoin, broken: LinkBoot, finds: lost, fails: true},
		{name: "no user-data", sample: n, in: gone("user-data is empty", false), joinable: DoesNotJoin, broken: LinkBoot, finds: lost, fails: true},
		{name: "the launch template was deleted", sample: n, in: gone("launch template lt-1: not found", true), joinable: DoesNotJoin, broken: LinkTemplate, finds: lost, fails: true},
		{name: "another hash than the server's", sample: n, dump: userData("NodeupConfigHash: ", "NodeupConfigHash: A"), joinable: DoesNotJoin, broken: LinkHash, finds: lost, fails: true},
		{name: "the node configuration changed since", sample: n, dump: object("nodes-us-east-1a/nodeupconfig.yaml", "another: one\n"), joinable: DoesNotJoin, broken: LinkHash, finds: lost, fails: true},
		{name: "no node configuration in the store", sample: n, dump: object("nodes-us-east-1a/nodeupconfig.yaml", ""), joinable: DoesNotJoin, broken: LinkHash, finds: lost, fails: true},

		// Endpoints.
		{name: "the first address is nobody's", sample: h, dump: userData(first, "https://172.20.0.9:3988/"), joinable: DoesNotJoin, broken: LinkEndpoints, finds: lost, fails: true},
		{name: "the second address is nobody's", sample: n, dump: userData(second, "https://172.20.0.9:3988/"), joinable: Joins},
		{name: "one address of api.internal is dead", sample: n, dump: userData("APIServerIPs:\n- 172.20.0.250", "APIServerIPs:\n- 172.20.0.9"), joinable: Joins, finds: []string{"MU322 high"}, fails: true},
		{name: "the load balancer was made anew", sample: n, in: func(in *Input) {
			in.Cloud.LoadBalancers[0].Addresses = []netip.Addr{netip.MustParseAddr("172.20.0.77")}
		}, joinable: DoesNotJoin, broken: LinkEndpoints, finds: []string{"MU322 high", "MU501 critical"}, fails: true},
		{name: "the load balancer has no address yet", sample: n, in: func(in *Input) { in.Cloud.LoadBalancers[0].Addresses = nil }, joinable: Unknown, finds: []string{"MU502 high"}, fails: true},
		{name: "the load balancer is internal", sample: n, in: func(in *Input) { in.Cloud.LoadBalancers[0].Scheme = "internal" }, joinable: Joins},
		{name: "a name that resolves nowhere", sample: n, dump: userData(first, "https://boot.example.invalid:3988/"), in: func(in *Input) {
			in.Probes = &Probes{Resolved: map[string][]netip.Addr{"boot.example.invalid": nil}}
		}, joinable: DoesNotJoin, broken: LinkEndpoints, finds: lost, fails: true},

		// Network and targets.
		{name: "nobody may reach 3988 of the control plane", sample: n, dump: without("masters", 3988), joinable: DoesNotJoin, broken: LinkNetwork, finds: lost, fails: true},
		{name: "workers may not reach the load balancer's 3988", sample: n, dump: without("api-elb", 3988), joinable: DoesNotJoin, broken: LinkNetwork, finds: lost, fails: true},
		{name: "workers may not reach protokube", sample: g, dump: without("masters", 3999), joinable: DoesNotJoin, broken: LinkNetwork, finds: lost, fails: true},
		{name: "nobody listens on 443", sample: n, in: noListener(443), joinable: DoesNotJoin, broken: LinkAPI, finds: lost, fails: true},
		{name: "nobody listens on 3988", sample: n, in: noListener(3988), joinable: DoesNotJoin, broken: LinkController, finds: lost, fails: true},
		{name: "3988 is unhealthy, 443 is not", sample: n, in: health(3988, cloud.TargetUnhealthy), joinable: DoesNotJoin, broken: LinkController, finds: []string{"MU501 critical", "MU505 high"}, fails: true},
		{name: "443 is unhealthy, 3988 is not", sample: n, in: health(443, cloud.TargetUnhealthy), joinable: DoesNotJoin, broken: LinkAPI, finds: []string{"MU501 critical", "MU505 high"}, fails: true},
		{name: "no target behind 3988", sample: n, in: listeners(func(l *cloud.Listener) {
			if l.Port == 3988 {
				l.Targets = []cloud.Target{}
			}
		}), joinable: DoesNotJoin, broken: LinkController, finds: []string{"MU501 critical", "MU505 high"}, fails: true},
		{name: "one of three targets is healthy", sample: n, in: listeners(func(l *cloud.Listener) {
			l.Targets[0].Health, l.Targets[1].Health = cloud.TargetUnhealthy, cloud.TargetDraining
		}), joinable: Joins},
		{name: "target health may not be read", sample: n, in: func(in *Input) {
			in.Cloud.LoadBalancers[0].Listeners[1].Targets = nil
			in.Cloud.Gaps = append(in.Cloud.Gaps, cloud.Gap{What: "target health", Subject: in.Cloud.LoadBalancers[0].Name, Why: "denied"})
		}, joinable: Unknown, finds: []string{"MU502 high"}, fails: true},

		// Certificates and permissions.
		{name: "the certificate carries another name", sample: n, in: served("api.atlas.k8s.local"), joinable: DoesNotJoin, broken: LinkCertificate, finds: lost, fails: true},
		{name: "the certificate carries the name, strictly", sample: n, in: served("kops-controller.internal.atlas.k8s.local"), strict: true, joinable: Joins},
		{name: "nobody saw the certificate, strictly", sample: n, strict: true, joinable: Unknown, finds: []string{"MU502 high"}, fails: true},
		{name: "no name to check behind kOps 1.36", sample: n, dump: userData("  tlsServerName: kops-controller.internal.atlas.k8s.local\n", ""), joinable: DoesNotJoin, broken: LinkCertificate, finds: lost, fails: true},
		{name: "a worker that gossips may not read the store", sample: g, dump: lacks("s3:"), joinable: DoesNotJoin, broken: LinkPermissions, finds: []string{"MU203 high", "MU501 critical"}, loses: []string{"MU205"}, fails: true},
		{name: "a worker that gossips may not list instances", sample: g, dump: lacks("ec2:DescribeInstances"), joinable: DoesNotJoin, broken: LinkPermissions, finds: []string{"MU203 high", "MU501 critical"}, loses: []string{"MU201"}, fails: true},

		// The control plane and the spec.
		{name: "every control-plane node is stopped, gossip", sample: g, in: stopped, joinable: DoesNotJoin, broken: LinkEndpoints, finds: lost, fails: true},
		{name: "nobody publishes the names any more", sample: g, dump: object("bootstrap-channel.yaml", "spec: {addons: []}\n"), joinable: DoesNotJoin, broken: LinkNames, finds: lost, fails: true},
		{name: "kOps 1.34", sample: g, dump: object("kops-version.txt", "1.34.1\n"), joinable: Joins, finds: []string{"MU324 low"}, fails: true},
		{name: "nobody knows which kOps", sample: g, dump: object("kops-version.txt", ""), joinable: Joins, finds: []string{"MU103 low", "MU324 low"}, loses: []string{"MU102"}, fails: true},
		{name: "Terraform", sample: n, dump: spec("  topology:", "  target:\n    terraform: {}\n  topology:"), joinable: Joins, finds: []string{"MU606 medium"}},
		{name: "a group of API servers", sample: h, dump: func(_ *testing.T, d *dump) {
			d.Spec += "\n---\napiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: api}\nspec: {role: APIServer, minSize: 1, maxSize: 1, subnets: [us-east-1a]}\n"
		}, joinable: Joins, finds: []string{"MU502 high", "MU604 high"}, fails: true},

		// Older generations.
		{name: "an old worker after kOps took its permissions", sample: h, in: workers(func(_ *Input, g *cloud.Group) {
			g.Instances[0].Generation, g.Instances[0].Version = cloud.GenerationOld, "1"
			g.Instances[0].Boot = &cloud.BootConfig{Cluster: "atlas.k8s.local", Group: g.Name, Role: cluster.RoleNode, ConfigBase: "s3://kops-state/atlas.k8s.local", ConfigHash: "x", KopsVersion: "1.35.2"}
		}), joinable: Joins, reboot: DoesNotJoin, finds: []string{"MU203 high", "MU503 critical"}, loses: []string{"MU313"}, fails: true},
		{name: "an old worker of which nothing is known", sample: n, in: workers(func(in *Input, g *cloud.Group) {
			g.Instances[0].Generation, g.Instances[0].Version = cloud.GenerationUnknown, ""
			in.Cloud.Gaps = append(in.Cloud.Gaps, cloud.Gap{What: "boot configuration", Subject: "another", Why: "denied"})
		}), joinable: Joins, reboot: Unknown, finds: []string{"MU504 low"}},
		{name: "nothing changed", sample: n, joinable: Joins, broken: noBroken},
	}
}
