package describe_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/describe"
)

const (
	wide   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:DescribeInstances","ec2:DescribeInstanceTypes"],"Resource":"*"}]}`
	narrow = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:DescribeInstanceTypes"],"Resource":"*"}]}`
)

// facts returns a hybrid cluster in the middle of a rolling update.
func facts() describe.Facts {
	spec := &cluster.Cluster{
		Name: "lyra.k8s.local", Cloud: cluster.AWS, DNSType: cluster.DNSPrivate,
		API: cluster.API{LoadBalancer: &cluster.LoadBalancer{Class: cluster.LoadBalancerNetwork}},
		Groups: []cluster.Group{
			{Name: "nodes-a", Role: cluster.RoleNode, MinSize: 2},
			{Name: "control-plane-a", Role: cluster.RoleControlPlane, MinSize: 1},
		},
	}
	worker := &cloud.BootConfig{
		Cluster: spec.Name, Group: "nodes-a", Role: cluster.RoleNode, KopsVersion: "1.36.2",
		Servers: []string{"https://10.9.0.250:3988/"}, TLSServerName: "kops-controller.internal.lyra.k8s.local",
	}
	control := &cloud.BootConfig{
		Cluster: spec.Name, Group: "control-plane-a", Role: cluster.RoleControlPlane, KopsVersion: "1.36.2",
		ConfigBase: "s3://state/lyra.k8s.local", ConfigHash: "aGFzaA==",
	}
	old := &cloud.BootConfig{Cluster: spec.Name, Group: "nodes-a", Role: cluster.RoleNode, ConfigBase: "s3://state/lyra.k8s.local"}
	return describe.Facts{
		Spec:        spec,
		KopsVersion: "1.36.2",
		NodeConfigs: map[string]describe.NodeConfig{"control-plane-a": {Gossip: true}},
		Seen: &cloud.Observation{
			Groups: []cloud.Group{
				{Name: "control-plane-a", Role: cluster.RoleControlPlane, Desired: 1, Template: cloud.Template{Version: "2", Boot: control},
					Instances: []cloud.Instance{{ID: "i-1", Addr: netip.MustParseAddr("10.9.0.1"), Generation: cloud.GenerationNew}}},
				{Name: "nodes-a", Role: cluster.RoleNode, Desired: 2, Template: cloud.Template{Version: "2", Boot: worker},
					Instances: []cloud.Instance{
						{ID: "i-2", Generation: cloud.GenerationOld, Boot: old, Detached: true},
						{ID: "i-3", Generation: cloud.GenerationNew},
						{ID: "i-4", Generation: cloud.GenerationUnknown},
					}},
			},
			LoadBalancers: []cloud.LoadBalancer{{
				Name: "api-lyra", Class: "network", Scheme: "public", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.250")},
				Listeners: []cloud.Listener{
					{Port: 443, Protocol: "TCP", Check: "TCP", Targets: []cloud.Target{{ID: "i-1", Health: cloud.TargetHealthy}}},
					{Port: 3988, Protocol: "TCP", Check: "HTTPS /healthz", Targets: []cloud.Target{{ID: "i-1", Health: cloud.TargetUnhealthy}}},
				},
			}},
			Roles: []cloud.Role{
				{Name: "nodes.lyra.k8s.local", Roles: []cluster.Role{cluster.RoleNode}, Kind: cloud.KindPolicy, Policies: map[string]string{"nodes": wide}},
			},
			Gaps: []cloud.Gap{{What: "target health", Subject: "api-lyra", Why: "denied"}},
		},
	}
}

func TestDrawShowsOneScreen(t *testing.T) {
	d := describe.Describe(facts())
	d.Calls = []cloud.Call{{Action: "ec2:DescribeInstances", Resource: "all", Permission: "ec2:DescribeInstances", Took: 1500 * time.Microsecond}}
	var b strings.Builder
	if err := d.Draw(&b); err != nil {
		t.Fatal(err)
	}
	want := `lyra.k8s.local   hybrid   (name ends in .k8s.local, dns.type Private, load balancer class Network, kOps 1.36.2)   aws
deprecated: kOps 1.37 refuses gossip clusters; 1.36 is the only bridge

GROUP            ROLE          NODES             NEW  OLD         UNKNOWN  BOOTS BY   LEADS TO
control-plane-a  ControlPlane  1/1               1    0           0        gossip     state store, then seeds by cloud tag, then gossip
nodes-a          Node          3/2 (1 detached)  1    1 (gossip)  1        addresses  10.9.0.250 (load balancer)

LOAD BALANCER  api-lyra   network, public   10.9.0.250
  443   API              1/1 healthy  TCP
  3988  kops-controller  0/1 healthy  HTTPS /healthz

PERMISSIONS           OF    BREADTH
nodes.lyra.k8s.local  Node  broad    1 policy, 1 not needed: ec2:DescribeInstances

ATTENTION
  load balancer api-lyra: no healthy target behind port 3988

UNKNOWN
  target health of api-lyra: denied

1 CALLS                OF   TOOK  PERMISSION
ec2:DescribeInstances  all  2ms   ec2:DescribeInstances
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

func TestJSONHasTheNamesThatOthersRelyOn(t *testing.T) {
	text, err := json.Marshal(describe.Describe(facts()))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Topology    string
		KopsVersion string
		Groups      []struct {
			Name, Role, BootPath string
			Addresses, Servers   []string
			Generations          map[string]int
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	g := got.Groups[1]
	if got.Topology != "hybrid" || got.KopsVersion != "1.36.2" || g.Name != "nodes-a" || g.Role != "Node" || g.BootPath != "addresses" ||
		!cmp.Equal(g.Addresses, []string{"10.9.0.250"}) || !cmp.Equal(g.Servers, []string{"https://10.9.0.250:3988/"}) ||
		!cmp.Equal(g.Generations, map[string]int{"new": 1, "old": 1, "unknown": 1}) {
		t.Errorf("got %+v", got)
	}
	for _, key := range []string{"addresses", "servers"} {
		if strings.Contains(string(text), `"`+key+`":null`) {
			t.Errorf("%s is null in %s", key, text)
		}
	}
}

func TestDescribeSaysHowItDecided(t *testing.T) {
	tests := map[string]struct {
		change   func(*describe.Facts)
		topology string
		why      string
	}{
		"1.35 knows no hybrid":                    {func(f *describe.Facts) { f.KopsVersion = "1.35.2" }, "gossip", "kOps 1.35.2"},
		"a classic balancer is no bridge":         {func(f *describe.Facts) { f.Spec.API.LoadBalancer.Class = "" }, "gossip", "class Classic"},
		"None decides before the name":            {func(f *describe.Facts) { f.Spec.DNSType = cluster.DNSNone }, "none", "dns.type None"},
		"templates stand in for the version":      {func(f *describe.Facts) { f.KopsVersion = "" }, "hybrid", "templates of kOps 1.36.2"},
		"without any version it is unknown":       {func(f *describe.Facts) { f.KopsVersion, f.Seen = "", nil }, "unknown", "gossip under kOps 1.35, hybrid under 1.36"},
		"where all versions agree none is needed": {func(f *describe.Facts) { f.KopsVersion, f.Seen, f.Spec.DNSType = "", nil, cluster.DNSNone }, "none", "dns.type None"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := facts()
			tt.change(&f)
			d := describe.Describe(f)
			if d.Topology != tt.topology || !strings.Contains(d.Decided, tt.why) {
				t.Errorf("topology %s because %q; want %s because %q", d.Topology, d.Decided, tt.topology, tt.why)
			}
		})
	}
}

func TestWhereABootPathLeads(t *testing.T) {
	worker := func(f *describe.Facts) *cloud.BootConfig { return f.Seen.Groups[1].Template.Boot }
	tests := map[string]struct {
		change    func(*describe.Facts)
		group     int
		path      cloud.BootPath
		leads     string
		attention string
	}{
		"a name that nothing resolves": {func(f *describe.Facts) {
			worker(f).Servers = []string{"https://kops-controller.internal.lyra.k8s.local:3988/"}
		}, 1, cloud.BootName, "nothing resolves", "no new node can join"},
		"a name in hosted DNS": {func(f *describe.Facts) {
			f.Spec.Name = "lyra.example.com"
			worker(f).Servers = []string{"https://kops-controller.internal.lyra.example.com:3988/"}
		}, 1, cloud.BootName, "hosted DNS", ""},
		"an address of nothing": {func(f *describe.Facts) { worker(f).Servers = []string{"https://10.9.9.9:3988/"} }, 1,
			cloud.BootAddresses, "nothing that was seen", "nothing that was seen"},
		"an address of nothing beside the load balancer's": {func(f *describe.Facts) {
			worker(f).Servers = []string{"https://10.9.0.250:3988/", "https://10.9.9.9:3988/"}
		}, 1, cloud.BootAddresses, "(load balancer; 10.9.9.9 of nothing that was seen)", "leads also to 10.9.9.9, of nothing that was seen"},
		"addresses of both": {func(f *describe.Facts) {
			worker(f).Servers = []string{"https://10.9.0.1:3988/", "https://10.9.0.250:3988/"}
		}, 1, cloud.BootAddresses, "(load balancer, control-plane nodes)", ""},
		"an address while instances were not read": {func(f *describe.Facts) {
			worker(f).Servers = []string{"https://10.9.9.9:3988/"}
			f.Seen.Gaps = []cloud.Gap{{What: "instances", Why: "denied"}}
		}, 1, cloud.BootAddresses, "was not seen", ""},
		"a name outside the cluster": {func(f *describe.Facts) {
			worker(f).Servers = []string{"https://lb.example.com:3988/"}
		}, 1, cloud.BootName, "lb.example.com, which was not looked up", ""},
		"API servers of a cluster in hosted DNS": {func(f *describe.Facts) {
			f.Spec.Name, f.NodeConfigs, f.Seen.Groups[0].Role = "lyra.example.com", nil, cluster.RoleAPIServer
		}, 0, cloud.BootAddresses, "127.0.0.1", ""},
		"an address while the balancer's were not read": {func(f *describe.Facts) {
			worker(f).Servers = []string{"https://10.9.9.9:3988/"}
			f.Seen.Gaps = []cloud.Gap{{What: "addresses", Subject: "api-lyra", Why: "denied"}}
		}, 1, cloud.BootAddresses, "was not seen", ""},
		"control-plane nodes": {func(f *describe.Facts) { worker(f).Servers = []string{"https://10.9.0.1:3988/"} }, 1,
			cloud.BootAddresses, "control-plane nodes", ""},
		"gossip, although it is hybrid": {func(f *describe.Facts) {
			worker(f).Servers, worker(f).ConfigBase = nil, "s3://state/lyra.k8s.local"
		}, 1, cloud.BootGossip, "then gossip", "boots as an old one"},
		"a control plane that does not gossip": {func(f *describe.Facts) {
			f.NodeConfigs["control-plane-a"] = describe.NodeConfig{}
		}, 0, cloud.BootAddresses, "127.0.0.1", ""},
		"a control plane that gossips still, though its spec says None": {func(f *describe.Facts) { f.Spec.DNSType = cluster.DNSNone }, 0, cloud.BootGossip, "then gossip", ""},
		"a control plane of None whose configuration nobody read": {func(f *describe.Facts) {
			f.Spec.DNSType, f.NodeConfigs = cluster.DNSNone, nil
		}, 0, cloud.BootAddresses, "127.0.0.1", ""},
		"a template that could not be read": {func(f *describe.Facts) { f.Seen.Groups[1].Template.Boot = nil }, 1, cloud.BootUnknown, "could not be read", ""},
		"nothing at all":                    {func(f *describe.Facts) { worker(f).Servers = nil }, 1, cloud.BootUnknown, "neither", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := facts()
			tt.change(&f)
			d := describe.Describe(f)
			g := d.Groups[tt.group]
			if g.BootPath != tt.path || !strings.Contains(g.Leads, tt.leads) {
				t.Errorf("%s leads to %q; want %s to %q", g.BootPath, g.Leads, tt.path, tt.leads)
			}
			about := slices.DeleteFunc(d.Attention, func(a string) bool { return !strings.HasPrefix(a, g.Name+": ") })
			if all := strings.Join(about, "\n"); !strings.Contains(all, tt.attention) || tt.attention == "" && all != "" {
				t.Errorf("attention %q, want %q", all, tt.attention)
			}
		})
	}
}

func TestWithoutTheCloudTheRestIsShown(t *testing.T) {
	f := facts()
	f.Seen, f.Blind = nil, "observe lyra.k8s.local: no AWS credentials: denied"
	d := describe.Describe(f)
	if len(d.Groups) != 2 || d.Groups[1].BootPath != cloud.BootUnknown || d.Topology != "hybrid" {
		t.Errorf("description %+v", d)
	}
	if len(d.Unknown) != 1 || d.Unknown[0].Why != f.Blind {
		t.Errorf("unknown %+v", d.Unknown)
	}
	var b strings.Builder
	if err := d.Draw(&b); err != nil || !strings.Contains(b.String(), "LOAD BALANCER  unknown") {
		t.Errorf("screen %s, %v", b.String(), err)
	}
}

func TestAGroupThatTheCloudLacksIsUnknown(t *testing.T) {
	f := facts()
	f.Seen.Groups = f.Seen.Groups[:1]
	d := describe.Describe(f)
	gap := cloud.Gap{What: "group", Subject: "nodes-a", Why: "the spec has it, the cloud does not show it"}
	if len(d.Groups) != 2 || d.Groups[1].BootPath != cloud.BootUnknown || !slices.Contains(d.Unknown, gap) {
		t.Errorf("groups %+v, unknown %+v", d.Groups, d.Unknown)
	}
}

func TestBreadthOfPermissions(t *testing.T) {
	tests := map[string]struct {
		change func(*describe.Facts)
		want   string
	}{
		"more than hybrid needs":     {func(*describe.Facts) {}, "broad"},
		"what hybrid needs":          {func(f *describe.Facts) { f.Seen.Roles[0].Policies["nodes"] = narrow }, "narrow"},
		"a policy that is no policy": {func(f *describe.Facts) { f.Seen.Roles[0].Policies["nodes"] = "{" }, "unknown"},
		"an attached policy": {func(f *describe.Facts) {
			f.Seen.Roles[0].Policies["nodes"], f.Seen.Roles[0].Managed = narrow, []string{"extra"}
		}, "unknown"},
		"narrow, but not all was read": {func(f *describe.Facts) {
			f.Seen.Roles[0].Policies["nodes"] = narrow
			f.Seen.Gaps = []cloud.Gap{{What: "permissions", Subject: "nodes.lyra.k8s.local", Why: "denied"}}
		}, "unknown"},
		"a release without a table": {func(f *describe.Facts) { f.Spec.DNSType, f.Spec.Name = cluster.DNSPublic, "lyra.example.com" }, "unknown"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := facts()
			tt.change(&f)
			if got := describe.Describe(f).Permissions[0]; got.Breadth != tt.want {
				t.Errorf("permission %+v, want %s", got, tt.want)
			}
		})
	}
}

func TestReadNodeConfig(t *testing.T) {
	for data, want := range map[string]bool{"usesLegacyGossip: true\n": true, "usesLegacyGossip: false\n": false} {
		if c, err := describe.ReadNodeConfig([]byte(data)); err != nil || c.Gossip != want {
			t.Errorf("%q gives %+v, %v; want gossip %v", data, c, err, want)
		}
	}
	for _, bad := range []string{"", "a: [", "usesNoneDNS: true\n"} {
		if c, err := describe.ReadNodeConfig([]byte(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, c)
		}
	}
}

func TestTargetsOfUnknownHealthAreNotCalledUnhealthy(t *testing.T) {
	f := facts()
	f.Seen.LoadBalancers[0].Listeners[1].Targets[0].Health = cloud.TargetUnknown
	d := describe.Describe(f)
	if got := d.LoadBalancers[0].Listeners[1].Targets; got != -1 {
		t.Errorf("targets %d; want -1, for not known", got)
	}
	if slices.ContainsFunc(d.Attention, func(a string) bool { return strings.Contains(a, "3988") }) {
		t.Errorf("attention %q", d.Attention)
	}
}
