package audit

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestWouldANewWorkerJoin(t *testing.T) {
	server := func(url string) change { return func(in *Input) { nodes(in).Template.Boot.Servers = []string{url} } }
	health := func(port int, h cloud.TargetHealth) change {
		return func(in *Input) {
			for i, l := range in.Cloud.LoadBalancers[0].Listeners {
				if l.Port == port {
					in.Cloud.LoadBalancers[0].Listeners[i].Targets[0].Health = h
				}
			}
		}
	}
	gap := func(what, subject string) change {
		return func(in *Input) {
			in.Cloud.Gaps = append(in.Cloud.Gaps, cloud.Gap{What: what, Subject: subject, Why: "denied"})
		}
	}
	leftover := func(class string) change {
		return func(in *Input) {
			lb := in.Cloud.LoadBalancers[0]
			lb.Name, lb.Class, lb.Addresses = "left-over", class, []netip.Addr{nowhere}
			lb.Listeners = slices.Clone(lb.Listeners)
			for i := range lb.Listeners {
				lb.Listeners[i].Targets = []cloud.Target{{ID: "i-cp", Health: cloud.TargetHealthy}}
			}
			in.Cloud.LoadBalancers = append(in.Cloud.LoadBalancers, lb)
		}
	}
	noRules := func(in *Input) { in.Cloud.Network.Rules = nil }
	// onlyOut allows mesh connections only from the control plane, as on GCE.
	onlyOut := func(in *Input) {
		for i, r := range in.Cloud.Network.Rules {
			if r.Low == 3999 {
				in.Cloud.Network.Rules[i] = cloud.Rule{From: partyControl, To: partyWorkers, Protocol: "tcp", High: 65535}
			}
		}
	}
	tests := []struct {
		name   string
		change change
		want   Joinable
		broken string
	}{
		{"healthy, by address", func(*Input) {}, Joins, ""},
		{"healthy, by gossip", gossiping, Joins, ""},
		{"healthy, hybrid", hybrid, Joins, ""},
		{"template unreadable", func(in *Input) { nodes(in).Template.ID = "" }, Unknown, ""},
		{"user-data unreadable", both(func(in *Input) { nodes(in).Template.Boot = nil }, gap("boot configuration", workers)), Unknown, ""},
		{"user-data of another cluster", both(func(in *Input) { nodes(in).Template.Boot = nil }, gap(cloud.GapForeignBoot, workers)), DoesNotJoin, LinkBoot},
		{"nothing in the boot configuration", func(in *Input) { nodes(in).Template.Boot.Servers = nil }, DoesNotJoin, LinkBoot},
		{"boot configuration of another cluster", func(in *Input) { nodes(in).Template.Boot.Cluster = "other.k8s.local" }, DoesNotJoin, LinkBoot},
		{"boot configuration of another group", func(in *Input) { nodes(in).Template.Boot.Group = masters }, DoesNotJoin, LinkBoot},
		{"boot configuration of another role", func(in *Input) { nodes(in).Template.Boot.Role = cluster.RoleControlPlane }, DoesNotJoin, LinkBoot},
		{"no CA to trust", func(in *Input) { nodes(in).Template.Boot.CA = "" }, DoesNotJoin, LinkCertificate},
		{"only a name that gossip would resolve", server("https://kops-controller.internal.atlas.k8s.local:3988/"), DoesNotJoin, LinkEndpoints},
		{"a name that resolves", both(server("https://lb.example.com:3988/"), func(in *Input) {
			in.Probes.Resolved = map[string][]netip.Addr{"lb.example.com": {lbAddr}}
		}), Joins, ""},
		{"a name that does not resolve", both(server("https://lb.example.com:3988/"), func(in *Input) {
			in.Probes.Resolved = map[string][]netip.Addr{"lb.example.com": nil}
		}), DoesNotJoin, LinkEndpoints},
		{"a name that nobody asked for", server("https://lb.example.com:3988/"), Unknown, ""},
		{"no URL at all", server("kops"), DoesNotJoin, LinkBoot},
		{"the load balancer was made anew", server("https://10.0.0.99:3988/"), DoesNotJoin, LinkEndpoints},
		{"its addresses could not be read", both(server("https://10.0.0.99:3988/"), func(in *Input) { in.Cloud.LoadBalancers[0].Addresses = nil }), Unknown, ""},
		{"an address that may be that of an instance which could not be read", both(server("https://10.0.0.99:3988/"), gap("instances", "")), Unknown, ""},
		{"the first of two addresses is dead", func(in *Input) {
			nodes(in).Template.Boot.Servers = []string{"https://10.0.0.99:3988/", "https://10.0.0.250:3988/"}
		}, DoesNotJoin, LinkEndpoints},
		{"the first of two addresses is dead, and kOps 1.37 tries the second", func(in *Input) {
			nodes(in).Template.Boot.Servers, nodes(in).Template.Boot.KopsVersion = []string{"https://10.0.0.99:3988/", "https://10.0.0.250:3988/"}, "1.37.0"
		}, Joins, ""},
		{"both addresses are dead for kOps 1.37", func(in *Input) {
			nodes(in).Template.Boot.Servers, nodes(in).Template.Boot.KopsVersion = []string{"https://10.0.0.99:3988/", "https://10.0.0.98:3988/"}, "1.37.0"
		}, DoesNotJoin, LinkEndpoints},
		{"the second of two addresses is dead", func(in *Input) {
			nodes(in).Template.Boot.Servers = []string{"https://10.0.0.250:3988/", "https://10.0.0.99:3988/"}
		}, Joins, ""},
		{"a control-plane node's own address, which workers may not reach", server("https://10.0.0.10:3988/"), DoesNotJoin, LinkNetwork},
		{"no rule from workers to the load balancer", func(in *Input) { in.Cloud.Network.Rules = in.Cloud.Network.Rules[1:] }, DoesNotJoin, LinkNetwork},
		{"no rule from the load balancer to port 3988", func(in *Input) { in.Cloud.Network.Rules = in.Cloud.Network.Rules[:3] }, DoesNotJoin, LinkNetwork},
		{"some rules could not be read", both(noRules, func(in *Input) { in.Cloud.Network.Partial = true }), Unknown, ""},
		{"no listener for 3988", func(in *Input) { in.Cloud.LoadBalancers[0].Listeners = in.Cloud.LoadBalancers[0].Listeners[:1] }, DoesNotJoin, LinkController},
		{"no listener for 443", func(in *Input) { in.Cloud.LoadBalancers[0].Listeners = in.Cloud.LoadBalancers[0].Listeners[1:] }, DoesNotJoin, LinkAPI},
		{"the API is down, kops-controller is not", health(443, cloud.TargetUnhealthy), DoesNotJoin, LinkAPI},
		{"kops-controller is down, the API is not", health(3988, cloud.TargetUnhealthy), DoesNotJoin, LinkController},
		{"the API is down, and healthy behind a classic load balancer that is left over", both(health(443, cloud.TargetUnhealthy), leftover(classic)), DoesNotJoin, LinkAPI},
		{"kops-controller is down, and healthy behind a load balancer at another address", both(health(3988, cloud.TargetUnhealthy), leftover("network")), DoesNotJoin, LinkController},
		{"targets drain", health(3988, cloud.TargetDraining), DoesNotJoin, LinkController},
		{"targets are still registering", health(3988, cloud.TargetInitial), Unknown, ""},
		{"target health is denied", both(func(in *Input) { in.Cloud.LoadBalancers[0].Listeners[1].Targets = nil }, gap("target health", "api")), Unknown, ""},
		{"a listener without targets", func(in *Input) { in.Cloud.LoadBalancers[0].Listeners[1].Targets = []cloud.Target{} }, DoesNotJoin, LinkController},
		{"no load balancer at all", func(in *Input) { in.Cloud.LoadBalancers = nil }, DoesNotJoin, LinkEndpoints},
		{"another certificate", func(in *Input) { in.Probes.TLSNames["10.0.0.250:3988"] = []string{"www.example.com"} }, DoesNotJoin, LinkCertificate},
		{"another certificate, seen at the load balancer's name", func(in *Input) {
			in.Cloud.LoadBalancers[0].DNSName = "lb.example.com"
			in.Probes.TLSNames = map[string][]string{"lb.example.com:3988": {"www.example.com"}}
		}, DoesNotJoin, LinkCertificate},
		{"another certificate at the load balancer's name, without a port in the URL", both(server("https://10.0.0.250/"), func(in *Input) {
			in.Cloud.LoadBalancers[0].DNSName = "lb.example.com"
			in.Probes.TLSNames = map[string][]string{"lb.example.com:443": {"www.example.com"}}
		}), DoesNotJoin, LinkCertificate},
		{"a certificate that nobody saw", func(in *Input) { in.Probes = nil }, Joins, ""},
		{"a certificate that nobody saw, strictly", func(in *Input) { in.Probes, in.Strict = nil, true }, Unknown, ""},
		{"a 1.35 template that checks the address, against a 1.36 control plane", func(in *Input) {
			nodes(in).Template.Boot.TLSServerName, in.Probes.TLSNames = "", nil
		}, DoesNotJoin, LinkCertificate},
		{"the same against one that may be of 1.36 or not", func(in *Input) {
			nodes(in).Template.Boot.TLSServerName, in.Probes.TLSNames, cps(in).Instances[0].Generation = "", nil, cloud.GenerationUnknown
		}, Unknown, ""},
		{"the same where certificates carry addresses", func(in *Input) {
			nodes(in).Template.Boot.TLSServerName, in.Probes.TLSNames, in.Spec.Cloud = "", nil, cluster.Hetzner
		}, Joins, ""},
		{"permission taken away", func(in *Input) { in.Cloud.Roles[1].Policies = map[string]string{} }, DoesNotJoin, LinkPermissions},
		{"permission perhaps in an attached policy", func(in *Input) {
			in.Cloud.Roles[1].Policies, in.Cloud.Roles[1].Managed = nil, []string{"theirs"}
		}, Unknown, ""},
		{"role unreadable", both(func(in *Input) { in.Cloud.Roles = in.Cloud.Roles[:1] }, gap("permissions", workersRole)), Unknown, ""},
		{"one policy of several unreadable", both(func(in *Input) { in.Cloud.Roles[1].Policies[workersRole] = `{"Statement":[]}` }, gap("permissions", workersRole)), Unknown, ""},
		{"policy unreadable", func(in *Input) { in.Cloud.Roles[1].Policies[workersRole] = "{" }, Unknown, ""},
		{"1.37 needs no permission", func(in *Input) {
			nodes(in).Template.Boot.KopsVersion, in.Cloud.Roles[1].Policies = "1.37.0", nil
		}, Joins, ""},
		{"node configuration changed under the template", func(in *Input) { in.Store.NodeConfigs[workers] = NodeConfig{Hash: "other"} }, DoesNotJoin, LinkHash},
		{"node configuration gone", func(in *Input) { delete(in.Store.NodeConfigs, workers) }, DoesNotJoin, LinkHash},
		{"node configuration unreadable", func(in *Input) {
			delete(in.Store.NodeConfigs, workers)
			in.Store.Gaps = []cloud.Gap{{What: "node configuration", Subject: workers, Why: "denied"}}
		}, Unknown, ""},
		{"state store not read", func(in *Input) { in.Store = nil }, Unknown, ""},
		{"gossip without a seed", both(gossiping, func(in *Input) { cps(in).Instances[0].State = "terminated" }), DoesNotJoin, LinkEndpoints},
		{"gossip whose only seed is shut off, as OpenStack says it", both(gossiping, func(in *Input) { cps(in).Instances[0].State = "shutoff" }), DoesNotJoin, LinkEndpoints},
		{"gossip whose permissions are gone", both(gossiping, func(in *Input) { in.Cloud.Roles[1].Policies[workersRole] = workerPolicy }), DoesNotJoin, LinkPermissions},
		{"gossip without a publisher", both(gossiping, func(in *Input) { in.Store.Addons[0].Empty = true }), DoesNotJoin, LinkNames},
		{"gossip with add-ons unread", both(gossiping, func(in *Input) { in.Store.Addons = nil }), Unknown, ""},
		{"gossip behind a closed port", both(gossiping, noRules), DoesNotJoin, LinkNetwork},
		{"gossip behind a closed port, which the control plane calls out of", both(gossiping, onlyOut), Joins, ""},
		{"the same by a kOps that calls control-plane nodes only", both(gossiping, onlyOut, func(in *Input) { in.Version, in.Spec.API.LoadBalancer = "1.36.2", nil }), DoesNotJoin, LinkNetwork},
		{"the same by a kOps that nobody knows", both(gossiping, onlyOut, func(in *Input) { in.Version = "" }), Unknown, ""},
		{"the same over memberlist", both(gossiping, onlyOut, func(in *Input) {
			in.Spec.Gossip = &cluster.GossipConfig{Protocol: cluster.ProtocolMemberlist}
		}), DoesNotJoin, LinkNetwork},
		{"gossip template, control plane no longer gossips", both(gossiping, func(in *Input) { in.Spec.DNSType, in.Version = cluster.DNSNone, "1.36.2" }), DoesNotJoin, LinkNames},
		{"gossip template, instances unread", both(gossiping, gap("instances", ""), func(in *Input) {
			in.Spec.DNSType, in.Version, cps(in).Instances = cluster.DNSNone, "1.36.2", nil
		}), Unknown, ""},
		{"gossip template, control plane may gossip or not", both(gossiping, func(in *Input) {
			in.Spec.DNSType, in.Version, cps(in).Instances[0].Generation = cluster.DNSNone, "1.36.2", cloud.GenerationUnknown
		}), Unknown, ""},
		{"gossip template, spec edited to None and not applied", both(gossiping, ahead), Joins, ""},
		{"gossip on GCE without a binding", both(gossiping, func(in *Input) {
			in.Spec.Cloud = cluster.GCE
			in.Cloud.Roles[1] = cloud.Role{Name: workersRole, Kind: cloud.KindBinding}
		}), DoesNotJoin, LinkPermissions},
		{"gossip on GCE by what kOps binds", both(gossiping, func(in *Input) {
			in.Spec.Cloud = cluster.GCE
			in.Cloud.Roles[1] = cloud.Role{Name: workersRole, Kind: cloud.KindBinding, Bindings: []string{"roles/compute.viewer on project p"}}
		}), Joins, ""},
		{"gossip on GCE by roles that may list instances or not", both(gossiping, func(in *Input) {
			in.Spec.Cloud = cluster.GCE
			in.Cloud.Roles[1] = cloud.Role{Name: workersRole, Kind: cloud.KindBinding, Bindings: []string{"roles/logging.logWriter on project p", "roles/storage.objectViewer on gs://s"}}
		}), Unknown, ""},
		{"gossip on Azure by what kOps assigns", both(gossiping, func(in *Input) {
			in.Spec.Cloud = cluster.Azure
			in.Cloud.Roles[1] = cloud.Role{Name: workersRole, Kind: cloud.KindBinding, Bindings: []string{"Owner on /subscriptions/s/resourceGroups/g"}}
		}), Joins, ""},
		{"gossip on Hetzner without a token", both(gossiping, func(in *Input) { in.Spec.Cloud = cluster.Hetzner }), DoesNotJoin, LinkPermissions},
		{"gossip on Hetzner with a token", both(gossiping, func(in *Input) {
			in.Spec.Cloud, nodes(in).Template.Boot.Credentials = cluster.Hetzner, []string{"HCLOUD_TOKEN"}
		}), Joins, ""},
		{"gossip on Hetzner with a token for something else", both(gossiping, func(in *Input) {
			in.Spec.Cloud, nodes(in).Template.Boot.Credentials = cluster.Hetzner, []string{"S3_SECRET_ACCESS_KEY"}
		}), DoesNotJoin, LinkPermissions},
		{"the cloud was not looked at", func(in *Input) { in.Cloud = nil }, Unknown, ""},
		{"the cloud has no such group", func(in *Input) { in.Cloud.Groups = in.Cloud.Groups[:1] }, Unknown, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := healthy()
			tt.change(&in)
			g := groupNamed(t, Run(in, nil), workers)
			if g.Joinable != tt.want || g.BrokenLink != tt.broken {
				t.Errorf("%s, broken %q; want %s, broken %q; evidence %v", g.Joinable, g.BrokenLink, tt.want, tt.broken, g.Evidence)
			}
			if tt.broken != "" && g.Link(tt.broken).Detail == "" {
				t.Errorf("the broken link says nothing: %v", g.Evidence)
			}
		})
	}
}

func TestWouldANewControlPlaneNodeJoin(t *testing.T) {
	tests := []struct {
		name   string
		change change
		want   Joinable
		broken string
		path   cloud.BootPath
	}{
		{"in None it reads the store", func(*Input) {}, Joins, "", PathStore},
		{"in hybrid it gossips", hybrid, Joins, "", cloud.BootGossip},
		{"in None that no update has applied it gossips", both(hybrid, ahead), Joins, "", cloud.BootGossip},
		{"with hosted DNS it does not gossip either", func(in *Input) {
			in.Spec.DNSType, in.Spec.Name = cluster.DNSPublic, "atlas.example.com"
			cps(in).Template.Boot.Cluster = "atlas.example.com"
		}, Joins, "", PathStore},
		{"it needs no load balancer", func(in *Input) { in.Cloud.LoadBalancers = nil }, Joins, "", PathStore},
		{"it cannot attach etcd's volumes", func(in *Input) { in.Cloud.Roles[0].Policies["masters"] = workerPolicy }, DoesNotJoin, LinkPermissions, PathStore},
		{"nobody knows what it needs elsewhere", func(in *Input) { in.Spec.Cloud = cluster.GCE }, Joins, "", PathStore},
		{"nobody knows what it needs elsewhere, strictly", func(in *Input) { in.Spec.Cloud, in.Strict = cluster.GCE, true }, Unknown, "", PathStore},
		{"an API server without etcd attaches no volumes", func(in *Input) {
			in.Cloud.Roles[0].Policies["masters"] = workerPolicy
			in.Spec.Groups[0].Role, cps(in).Role, cps(in).Template.Boot.Role = cluster.RoleAPIServer, cluster.RoleAPIServer, cluster.RoleAPIServer
		}, Joins, "", PathStore},
		{"its configuration is gone", func(in *Input) { delete(in.Store.NodeConfigs, masters) }, DoesNotJoin, LinkHash, PathStore},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := healthy()
			tt.change(&in)
			g := groupNamed(t, Run(in, nil), masters)
			if g.Joinable != tt.want || g.BrokenLink != tt.broken || g.Path != tt.path {
				t.Errorf("%s by %s, broken %q; want %s by %s, broken %q", g.Joinable, g.Path, g.BrokenLink, tt.want, tt.path, tt.broken)
			}
		})
	}
}

func TestWouldAnOlderGenerationComeBack(t *testing.T) {
	tests := []struct {
		name   string
		change change
		want   []Joinable
		broken string
	}{
		{"no older generation", func(*Input) {}, nil, ""},
		{"gossips still", both(gossiping, old), []Joinable{Joins}, ""},
		{"its permissions were taken while it lives", both(hybrid, old, func(in *Input) { gossipRules(in) }), []Joinable{DoesNotJoin}, LinkPermissions},
		{"its configuration is newer than the hash that it pins", both(hybrid, newer), []Joinable{Unknown}, ""},
		{"the overlay is gone", both(old), []Joinable{DoesNotJoin}, LinkNames},
		{"its configuration could not be read", both(old, func(in *Input) { nodes(in).Instances[0].Boot = nil }), []Joinable{Unknown}, ""},
		{"two older generations", both(gossiping, old, func(in *Input) {
			nodes(in).Instances[1].Generation, nodes(in).Instances[1].Version = cloud.GenerationUnknown, "5"
		}), []Joinable{Joins, Unknown}, ""},
		{"what is gone does not come back", both(old, func(in *Input) { nodes(in).Instances[0].State = "terminated" }), nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := healthy()
			tt.change(&in)
			g := groupNamed(t, Run(in, nil), workers)
			var got []Joinable
			broken := ""
			for _, r := range g.Reboots {
				got = append(got, r.Joinable)
				broken += r.BrokenLink
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || broken != tt.broken {
				t.Errorf("reboots (-want +got):\n%s broken %q; want %q; %v", diff, broken, tt.broken, g.Reboots)
			}
		})
	}
}

// newer turns one worker into one from before an update of its group, with the same
// boot path.
func newer(in *Input) {
	g, boot := nodes(in), *nodes(in).Template.Boot
	boot.ConfigHash = "b2xkZXI="
	g.Instances[0].Generation, g.Instances[0].Version, g.Instances[0].Boot = cloud.GenerationOld, "5", &boot
}

// The planner assumes of a rebooting node what the audit reports as unknown; both use
// the same text.
func TestAuditAndPlanSayTheSameOfARebootBehindAnUpdate(t *testing.T) {
	in := healthy()
	both(hybrid, newer)(&in)
	r := Run(in, nil)
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.ID == "MU504" })
	if i < 0 || !strings.Contains(r.Findings[i].Observed, bootconfig.RebootRisk) {
		t.Errorf("findings %+v; want MU504 with %q", r.Findings, bootconfig.RebootRisk)
	}
	if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == "MU503" }) {
		t.Error("MU503 as well: what is unknown is not broken")
	}
}

// gossipRules allows workers to reach the control plane's overlay and services.
func gossipRules(in *Input) {
	for _, p := range []int{3999, 443, 3988} {
		in.Cloud.Network.Rules = append(in.Cloud.Network.Rules, cloud.Rule{From: partyWorkers, To: partyControl, Protocol: "tcp", Low: p, High: p})
	}
}

var classical = both(gossiping, func(in *Input) { in.Spec.API.LoadBalancer.Class = cluster.LoadBalancerClassic })

// What blocks hybrid and None does not block an upgrade to kOps 1.36, under which such a
// cluster keeps gossiping.
func TestReadyForSaysWhatTheReleaseMakesOfTheCluster(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  change
		release cluster.Release
		want    string
	}{
		{"a network load balancer", gossiping, cluster.Release136, "hybrid: its first update narrows the workers' role at once"},
		{"a classic load balancer", classical, cluster.Release136, "gossip still, since its load balancer is a classic one: nothing changes for workers"},
		{"no load balancer", both(gossiping, func(in *Input) { in.Spec.API.LoadBalancer = nil }), cluster.Release136, "gossip still, since it has no load balancer, which"},
		{"gossip for 1.37", classical, cluster.Release137, "nothing: it refuses the cluster"},
		{"None for 1.37", func(*Input) {}, cluster.Release137, "none still"},
		{"None that no update has applied", both(gossiping, ahead), cluster.Release136, "none, as its spec says: the update begins the move"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := healthy()
			tt.change(&in)
			if got := ReadyFor(in, Run(in, nil), tt.release).Becomes; !strings.HasPrefix(got, tt.want) {
				t.Errorf("becomes %q; want %q ...", got, tt.want)
			}
		})
	}
}

func TestReadyFor(t *testing.T) {
	tests := []struct {
		name    string
		change  change
		release cluster.Release
		want    bool
	}{
		{"None under 1.36 for 1.37", func(*Input) {}, cluster.Release137, true},
		{"gossip with a network load balancer for 1.36", gossiping, cluster.Release136, true},
		{"gossip with a classic load balancer for 1.36", classical, cluster.Release136, true},
		{"gossip for 1.37", gossiping, cluster.Release137, false},
		{"hybrid for 1.37", hybrid, cluster.Release137, false},
		{"gossip without a load balancer for 1.36 on AWS", both(gossiping, func(in *Input) { in.Spec.API.LoadBalancer = nil }), cluster.Release136, true},
		{"gossip without a load balancer for 1.36 elsewhere", both(gossiping, func(in *Input) {
			in.Spec.API.LoadBalancer, in.Spec.Cloud, nodes(in).Template.Boot.Credentials = nil, cluster.Hetzner, []string{"HCLOUD_TOKEN"}
		}), cluster.Release136, false},
		{"a load balancer whose addresses are not found", both(gossiping, func(in *Input) { in.Cloud.LoadBalancers[0].Addresses = nil }), cluster.Release136, false},
		{"a load balancer that is not there yet", both(gossiping, func(in *Input) { in.Cloud.LoadBalancers = nil }), cluster.Release136, false},
		{"gossip fields for 1.37", func(in *Input) { in.Spec.Gossip = &cluster.GossipConfig{} }, cluster.Release137, false},
		{"None that no update has applied for 1.37", both(hybrid, ahead), cluster.Release137, false},
		{"older nodes for 1.37", old, cluster.Release137, false},
		{"instances that could not be read for 1.37", func(in *Input) {
			in.Cloud.Gaps = []cloud.Gap{{What: "instances", Subject: workers, Why: "denied"}}
			nodes(in).Instances = nil
		}, cluster.Release137, false},
		{"a worker that would not join", func(in *Input) { nodes(in).Template.Boot.CA = "" }, cluster.Release137, false},
		{"the cloud was not looked at", func(in *Input) { in.Cloud = nil }, cluster.Release137, false},
		{"back to where it came from", func(in *Input) { in.Version = "1.37.0" }, cluster.Release136, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := healthy()
			tt.change(&in)
			got := ReadyFor(in, Run(in, nil), tt.release)
			if got.Ready != tt.want {
				t.Errorf("ready %v; want %v: %q, unknown %q", got.Ready, tt.want, got.InTheWay, got.Unknown)
			}
			if !got.Ready && len(got.InTheWay)+len(got.Unknown) == 0 {
				t.Error("not ready, and nothing is in the way")
			}
		})
	}
}
