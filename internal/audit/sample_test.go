package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// samples are clusters as kOps built them; they are not in the repository.
const samples = "../../../shared/samples"

// sample returns a sample as the providers would observe it, with everything healthy.
func sample(t *testing.T, name string) Input {
	t.Helper()
	return edited(t, name, nil)
}

// edited returns a sample that was modified before it was read.
func edited(t *testing.T, name string, change func(*dump)) Input {
	t.Helper()
	spec, err := os.ReadFile(filepath.Join(samples, "specs", name+".yaml"))
	if err != nil {
		if os.Getenv("MUSTER_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: the samples of real clusters are not beside this repository: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(samples, "aws", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dump
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.Spec = string(spec); change != nil {
		change(&d)
	}
	c, err := cluster.Parse(name+".yaml", []byte(d.Spec))
	if err != nil {
		t.Fatal(err)
	}
	m, err := ReadManifest([]byte(d.Spec))
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Spec: c, Manifest: m, Now: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	in.Store, in.Version = d.store(t)
	in.Cloud = d.observe(t)
	return in
}

// dump is the content of a sample.
type dump struct {
	Spec            string `json:"-"` // from the file beside it
	Cluster         string
	LaunchTemplates []struct {
		ID, Name, UserData string
		Data               struct{ IamInstanceProfile struct{ Name string } }
	}
	AutoScalingGroups []struct {
		Name, LaunchTemplate string
		Min, Max, Desired    int
		Tags                 map[string]string
		TargetGroups         []string
	}
	LoadBalancers []struct {
		Name, Scheme   string
		SecurityGroups []string
		Listeners      []struct {
			Port                  int
			Protocol, TargetGroup string
		}
	}
	ClassicLoadBalancers []struct {
		Name, Scheme string
		Listeners    []struct{ LoadBalancerPort int }
	}
	LoadBalancerInterfaces []struct{ IP netip.Addr }
	SecurityGroups         []struct {
		ID, Name string
		Ingress  []struct {
			IPProtocol       string
			FromPort, ToPort int
			UserIDGroupPairs []struct{ GroupID string }
			IPRanges         []struct{ CidrIP netip.Prefix }
		}
	}
	Roles []struct {
		Name   string
		Inline map[string]json.RawMessage
	}
	Store struct{ Objects map[string]string }
}

func (d dump) store(t *testing.T) (*Store, string) {
	t.Helper()
	s := &Store{NodeConfigs: map[string]NodeConfig{}}
	version := ""
	for key, text := range d.Store.Objects {
		switch {
		case strings.HasSuffix(key, "kops-version.txt"):
			version = strings.TrimSpace(text)
		case strings.HasSuffix(key, "nodeupconfig.yaml"):
			sum := sha256.Sum256([]byte(text))
			group := strings.Split(key, "/")[3]
			s.NodeConfigs[group] = NodeConfig{Hash: base64.StdEncoding.EncodeToString(sum[:]), Gossip: strings.Contains(text, "usesLegacyGossip: true")}
		case strings.HasSuffix(key, "bootstrap-channel.yaml"):
			addons, err := ReadChannel([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			s.Addons = addons
		}
	}
	return s, version
}

func bootOfUserData(t *testing.T, text string) *cloud.BootConfig {
	t.Helper()
	b, err := bootconfig.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (d dump) observe(t *testing.T) *cloud.Observation {
	t.Helper()
	o := &cloud.Observation{Cluster: d.Cluster, Cloud: cluster.AWS}
	targets := map[string][]cloud.Target{}
	next := netip.MustParseAddr("172.20.1.1")
	for _, g := range d.AutoScalingGroups {
		out := cloud.Group{Name: g.Tags["kops.k8s.io/instancegroup"], ID: g.Name, Min: g.Min, Max: g.Max, Desired: g.Desired}
		for _, lt := range d.LaunchTemplates {
			if lt.Name == g.LaunchTemplate {
				out.Template = cloud.Template{ID: lt.ID, Version: "1", Boot: bootOfUserData(t, lt.UserData), Permissions: lt.Data.IamInstanceProfile.Name}
			}
		}
		if out.Role = cluster.RoleControlPlane; g.Tags["k8s.io/role/node"] != "" {
			out.Role = cluster.RoleNode
		}
		for range g.Desired {
			i := cloud.Instance{ID: "i-" + next.String(), Addr: next, State: "running", Generation: cloud.GenerationNew, Version: "1"}
			out.Instances = append(out.Instances, i)
			for _, tg := range g.TargetGroups {
				targets[tg] = append(targets[tg], cloud.Target{ID: i.ID, Health: cloud.TargetHealthy})
			}
			next = next.Next()
		}
		o.Groups = append(o.Groups, out)
	}
	for _, lb := range d.LoadBalancers {
		out := cloud.LoadBalancer{Name: lb.Name, Class: "network", Scheme: lb.Scheme}
		for _, e := range d.LoadBalancerInterfaces {
			out.Addresses = append(out.Addresses, e.IP)
		}
		for _, l := range lb.Listeners {
			out.Listeners = append(out.Listeners, cloud.Listener{Port: l.Port, Protocol: l.Protocol, Targets: targets[l.TargetGroup]})
		}
		o.LoadBalancers = append(o.LoadBalancers, out)
	}
	for _, lb := range d.ClassicLoadBalancers {
		out := cloud.LoadBalancer{Name: lb.Name, Class: "classic", Scheme: lb.Scheme}
		for _, l := range lb.Listeners {
			out.Listeners = append(out.Listeners, cloud.Listener{Port: l.LoadBalancerPort})
		}
		o.LoadBalancers = append(o.LoadBalancers, out)
	}
	o.Network = d.network()
	for _, r := range d.Roles {
		out := cloud.Role{Name: r.Name, Kind: cloud.KindPolicy, Policies: map[string]string{}, Roles: []cluster.Role{cluster.RoleNode}}
		if strings.HasPrefix(r.Name, "masters.") {
			out.Roles = []cluster.Role{cluster.RoleControlPlane}
		}
		for name, doc := range r.Inline {
			out.Policies[name] = string(doc)
		}
		o.Roles = append(o.Roles, out)
	}
	return o
}

func (d dump) network() (n cloud.Network) {
	party := map[string]string{}
	for _, g := range d.SecurityGroups {
		for prefix, p := range map[string]string{"nodes.": cloud.PartyWorkers, "masters.": cloud.PartyControlPlane, "api-elb.": cloud.PartyLoadBalancer} {
			if strings.HasPrefix(g.Name, prefix) {
				party[g.ID] = p
			}
		}
	}
	for _, g := range d.SecurityGroups {
		for _, p := range g.Ingress {
			r := cloud.Rule{To: party[g.ID], Protocol: p.IPProtocol, Low: p.FromPort, High: p.ToPort, Name: g.Name}
			if p.IPProtocol == "-1" {
				r.Protocol, r.Low, r.High = "all", 0, 65535
			}
			for _, pair := range p.UserIDGroupPairs {
				from := r
				from.From = party[pair.GroupID]
				n.Rules = append(n.Rules, from)
			}
			for _, c := range p.IPRanges {
				from := r
				from.Sources = []netip.Prefix{c.CidrIP}
				n.Rules = append(n.Rules, from)
			}
		}
	}
	return n
}

func ids(r Report) []string {
	var all []string
	for _, f := range r.Findings {
		all = append(all, f.ID)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// outlooks returns ID, Blocks and GoneAfter of all findings, without duplicates.
func outlooks(r Report) []string {
	var all []string
	for _, f := range r.Findings {
		all = append(all, fmt.Sprintf("%s %s %s", f.ID, f.Blocks, f.GoneAfter))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func groupNamed(t *testing.T, r Report, name string) Group {
	t.Helper()
	for _, g := range r.Groups {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no group %q among %v", name, r.Groups)
	return Group{}
}
