package audit

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestAHealthyClusterHasNoFindings(t *testing.T) {
	r := Run(healthy(), nil)
	for _, f := range r.Findings {
		t.Errorf("%s %s: %s", f.ID, f.Subject, f.Observed)
	}
	for _, g := range r.Groups {
		if g.Joinable != Joins {
			t.Errorf("%s %s at %v", g.Name, g.Joinable, g.Evidence)
		}
	}
	if len(r.Unknown) != 0 {
		t.Errorf("unknown: %v; everything was looked at", r.Unknown)
	}
}

// change modifies the input of a healthy cluster.
type change = func(*Input)

func both(changes ...change) change {
	return func(in *Input) {
		for _, c := range changes {
			c(in)
		}
	}
}

func secretSpec(t *testing.T) *cluster.GossipConfig {
	t.Helper()
	data := `apiVersion: kops.k8s.io/v1alpha2
kind: Cluster
metadata: {name: atlas.k8s.local}
spec:
  cloudProvider: aws
  gossipConfig: {protocol: mesh, secret: hush, secondary: {protocol: mesh}}
  subnets: [{name: a, cidr: 10.0.0.0/24, zone: a, type: Private}]
---
apiVersion: kops.k8s.io/v1alpha2
kind: InstanceGroup
metadata: {name: cp}
spec: {role: Master, minSize: 1, maxSize: 1, subnets: [a]}
---
apiVersion: kops.k8s.io/v1alpha2
kind: InstanceGroup
metadata: {name: nodes}
spec: {role: Node, minSize: 1, maxSize: 1, subnets: [a]}
`
	c, err := cluster.Parse("spec.yaml", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return c.Gossip
}

// findingCases returns, for each rule, a cluster with the finding and a similar one
// without.
func findingCases(t *testing.T) map[string]struct{ with, without change } {
	none := func(*Input) {}
	secret := secretSpec(t)
	world := func(port int) change {
		return func(in *Input) {
			in.Cloud.Network.Rules = append(in.Cloud.Network.Rules, cloud.Rule{From: cloud.PartyWorld, To: partyControl, Protocol: "tcp", Low: port, High: port})
		}
	}
	fromWorkers := func(port int) change {
		return func(in *Input) {
			in.Cloud.Network.Rules = append(in.Cloud.Network.Rules, cloud.Rule{From: partyWorkers, To: partyControl, Protocol: "tcp", Low: port, High: port})
		}
	}
	pods := func(all ...Workload) change {
		return func(in *Input) { in.Workloads = &Workloads{Pods: all} }
	}
	policy := func(doc string) change {
		return func(in *Input) { in.Cloud.Roles[1].Policies = map[string]string{workersRole: doc} }
	}
	return map[string]struct{ with, without change }{
		"MU101": {hybrid, none},
		"MU102": {gossiping, hybrid},
		"MU103": {func(in *Input) { in.Version = "" }, none},
		"MU104": {both(hybrid, ahead), hybrid},
		"MU201": {gossiping, hybrid},
		"MU202": {policy(`{"Statement":{"Effect":"Allow","Action":["ec2:DescribeInstanceTypes","kms:GenerateRandom"],"Resource":"*"}}`), none},
		"MU203": {both(gossiping, policy(workerPolicy)), gossiping},
		"MU204": {func(in *Input) { in.Cloud.Roles[1].Managed = []string{"AmazonSSMManagedInstanceCore"} }, none},
		"MU205": {gossiping, hybrid},
		"MU206": {func(in *Input) { nodes(in).Template.Boot.Credentials = []string{"HCLOUD_TOKEN"} },
			func(in *Input) { cps(in).Template.Boot.Credentials = []string{"HCLOUD_TOKEN"} }},
		"MU207": {func(in *Input) {
			in.Spec.Cloud = cluster.GCE
			in.Cloud.Roles[1] = cloud.Role{Name: workersRole, Roles: []cluster.Role{cluster.RoleNode}, Kind: cloud.KindBinding, Bindings: []string{"roles/compute.viewer on project p"}}
		}, none},
		"MU310": {hybrid, both(hybrid, func(in *Input) { in.Spec.Gossip = secret })},
		"MU311": {hybrid, both(hybrid, func(in *Input) { in.Spec.Gossip = secret })},
		"MU312": {both(hybrid, func(in *Input) { in.Spec.Gossip = secret }), hybrid},
		"MU313": {both(hybrid, fromWorkers(3999)), both(gossiping, fromWorkers(3998))},
		"MU314": {both(hybrid, world(4000)), both(hybrid, world(4001))},
		"MU315": {world(3988), world(3987)},
		"MU320": {both(hybrid, func(in *Input) { in.Probes.Overlay["www.example.com"] = []netip.Addr{nowhere} }), hybrid},
		"MU321": {func(in *Input) { in.Probes.Hosts["i-2"] = map[string][]netip.Addr{"api.internal." + name: {nowhere}} },
			func(in *Input) { in.Probes.Hosts["i-2"] = map[string][]netip.Addr{"api.internal." + name: {cpAddr}} }},
		"MU322": {func(in *Input) {
			nodes(in).Template.Boot.APIServerIPs = []string{lbAddr.String(), nowhere.String()}
		}, none},
		"MU323": {func(in *Input) { in.Store.Addons = []Addon{{Name: addonDNS}} }, hybrid},
		"MU324": {both(hybrid, func(in *Input) { in.Manifest.Cilium = true }), func(in *Input) { in.Manifest.Cilium = true }},
		"MU325": {both(hybrid, pods(Workload{Namespace: "mon", Owner: "DaemonSet agent", Pods: 2, HostNetwork: true, Names: []string{"api.internal." + name}})),
			both(hybrid, pods(Workload{Namespace: "mon", Owner: "DaemonSet agent", Pods: 2, HostNetwork: true, MountsHosts: true, Names: []string{"api.internal." + name}}))},
		"MU326": {func(in *Input) { in.Manifest.ProtokubeRefs = []string{"spec.hooks of the cluster"} }, none},
		"MU402": {hybrid, none},
		"MU501": {func(in *Input) {
			nodes(in).Template.Boot.Servers = []string{"https://kops-controller.internal." + name + ":3988/"}
		}, none},
		"MU502": {func(in *Input) { nodes(in).Template.Boot = nil }, none},
		"MU503": {old, both(gossiping, old)},
		"MU504": {both(old, func(in *Input) { nodes(in).Instances[0].Boot = nil }), none},
		"MU505": {func(in *Input) {
			in.Cloud.LoadBalancers[0].Listeners[1].Targets[0].Health = cloud.TargetUnhealthy
		}, func(in *Input) { in.Cloud.LoadBalancers[0].Listeners[1].Targets[0].Health = cloud.TargetUnknown }},
		"MU601": {both(hybrid, func(in *Input) { in.Spec.API.LoadBalancer.Class = cluster.LoadBalancerClassic }), hybrid},
		"MU602": {both(gossiping, func(in *Input) { in.Spec.API.LoadBalancer = nil }), gossiping},
		"MU603": {func(in *Input) { in.Spec.Groups[0].MinSize = 1 }, none},
		"MU604": {func(in *Input) {
			in.Spec.Groups = append(in.Spec.Groups, cluster.Group{Name: "api", Role: cluster.RoleAPIServer, MinSize: 1, MaxSize: 1})
		}, none},
		"MU605": {func(in *Input) { in.Spec.DNSControllerGossip = &cluster.GossipConfig{} }, none},
		"MU606": {func(in *Input) { in.Manifest.Terraform = true }, none},
		"MU607": {func(in *Input) { in.Spec.ExternalDNSProvider = "external-dns" }, none},
		"MU608": {both(gossiping, func(in *Input) { in.Spec.Cloud, in.Spec.API.LoadBalancer = cluster.Hetzner, nil }),
			both(gossiping, func(in *Input) { in.Spec.Cloud = cluster.Hetzner })},
	}
}

func TestEveryFindingAppearsAndGoesAway(t *testing.T) {
	cases := findingCases(t)
	for _, rule := range Rules() {
		t.Run(rule.ID, func(t *testing.T) {
			c, ok := cases[rule.ID]
			if !ok {
				t.Fatal("no test makes this finding appear")
			}
			in := healthy()
			c.with(&in)
			r := Run(in, nil)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.ID == rule.ID })
			if i < 0 {
				t.Fatalf("does not appear among %v", ids(r))
			}
			f := r.Findings[i]
			if f.Observed == "" || f.Subject == "" || f.Why == "" || f.Next == "" || f.Link == "" || strings.Contains(f.Observed, "\n") {
				t.Errorf("finding %+v is not complete, or not one line", f)
			}
			in = healthy()
			c.without(&in)
			if r := Run(in, nil); slices.Contains(ids(r), rule.ID) {
				t.Errorf("does not go away: %v", ids(r))
			}
		})
	}
	for id := range cases {
		if _, ok := RuleOf(id); !ok {
			t.Errorf("a test for %s, which is no finding", id)
		}
	}
}

func TestEveryFindingHasAPage(t *testing.T) {
	for _, rule := range Rules() {
		page, err := os.ReadFile(filepath.Join("../../docs/findings", rule.ID+".md"))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, want := range []string{"# " + rule.ID + ": " + rule.Title, "Severity: " + string(rule.Severity) + ". " + rule.Outlook() + "\n", "## Why it matters", "## What to do", rule.Link} {
			if !strings.Contains(string(page), want) {
				t.Errorf("docs/findings/%s.md lacks %q", rule.ID, want)
			}
		}
	}
	pages, err := filepath.Glob("../../docs/findings/MU*.md")
	if err != nil || len(pages) != len(Rules()) {
		t.Errorf("%d pages for %d findings, %v", len(pages), len(Rules()), err)
	}
}

func TestWhatThePodsDependOn(t *testing.T) {
	names := []string{"api.internal." + name}
	tests := []struct {
		name   string
		change change
		pods   []Workload
		want   []string
	}{
		{"a pod with a network of its own sees no hosts file", hybrid, []Workload{{Names: names, Pods: 1}}, nil},
		{"nothing changes the hosts file in None", func(*Input) {}, []Workload{{HostNetwork: true, Names: names, Pods: 1}}, nil},
		{"a pod that restarts protokube", func(*Input) {}, []Workload{{Namespace: "gpu", Owner: "pod x", Protokube: true, Pods: 1}}, []string{"MU326 gpu/pod x"}},
		{"with hosted DNS nobody reads the hosts file", func(in *Input) { in.Spec.DNSType, in.Spec.Name = cluster.DNSPublic, "atlas.example.com" },
			[]Workload{{HostNetwork: true, Names: names, Protokube: true, Pods: 1}}, nil},
	}
	for _, tt := range tests {
		in := healthy()
		tt.change(&in)
		in.Workloads = &Workloads{Pods: tt.pods}
		var got []string
		for _, f := range Run(in, nil).Findings {
			if f.ID == "MU325" || f.ID == "MU326" {
				got = append(got, f.ID+" "+f.Subject)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestGapsWithOneReasonAreOneLine(t *testing.T) {
	got := gapLines([]cloud.Gap{
		{What: "certificate", Subject: "a:443", Why: "timeout"}, {What: "addresses", Subject: "a", Why: "timeout"},
		{What: "certificate", Subject: "b:443", Why: "timeout"}, {What: "certificate", Subject: "c:443", Why: "refused"},
	})
	want := []string{"certificate of a:443, b:443: timeout", "addresses of a: timeout", "certificate of c:443: refused"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWorstFindingsComeFirst(t *testing.T) {
	in := healthy()
	both(gossiping, func(in *Input) {
		nodes(in).Template.Boot = byAddress()
		nodes(in).Template.Boot.Servers = []string{"https://10.0.0.99:3988/"}
	})(&in)
	r := Run(in, nil)
	if r.Findings[0].ID != "MU501" || r.Findings[0].Severity != Critical {
		t.Errorf("first is %+v; want MU501", r.Findings[0])
	}
	if !slices.IsSortedFunc(r.Findings, func(a, b Finding) int {
		return slices.Index(Severities(), a.Severity) - slices.Index(Severities(), b.Severity)
	}) {
		t.Error("findings are not sorted by severity")
	}
}

func TestAnAcceptedFindingStaysAndDoesNotCount(t *testing.T) {
	day := func(s string) time.Time { d, _ := time.Parse(time.DateOnly, s); return d }
	accepted, err := ReadAcceptances([]byte("accept:\n- {id: MU310, subject: atlas.k8s.local, reason: ports are closed, until: 2026-12-01}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for now, open := range map[string]bool{"2026-12-01": false, "2026-12-02": true} {
		in := healthy()
		hybrid(&in)
		in.Now = day(now).Add(23 * time.Hour)
		r := Run(in, accepted)
		if got := slices.ContainsFunc(r.Open(High), func(f Finding) bool { return f.ID == "MU310" }); got != open {
			t.Errorf("on %s MU310 is open: %v; want %v", now, got, open)
		}
		if !slices.Contains(ids(r), "MU310") {
			t.Errorf("on %s MU310 is not listed", now)
		}
	}
	in := healthy()
	hybrid(&in)
	in.Now, accepted[0].Subject = day("2026-12-01"), "another"
	if !slices.ContainsFunc(Run(in, accepted).Open(High), func(f Finding) bool { return f.ID == "MU310" }) {
		t.Error("an acceptance for another subject hides MU310")
	}
}

func TestReadAcceptancesRefusesWhatNobodyCouldMean(t *testing.T) {
	tests := []struct{ name, data, want string }{
		{"no yaml", "accept: [", "read acceptances"},
		{"a second document", "accept: []\n---\naccept: []\n", "second YAML document; put all entries below one accept"},
		{"unknown field", "accept:\n- {id: MU310, reasn: x}\n", "reasn"},
		{"unknown id", "accept:\n- {id: MU999, reason: x, until: 2027-01-01}\n", "acceptance 1 (MU999): no finding has this id"},
		{"no reason", "accept:\n- {id: MU310, until: 2027-01-01}\n", "acceptance 1 (MU310): has no reason"},
		{"no end", "accept:\n- {id: MU310, reason: x}\n", `until is ""; give a last day`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ReadAcceptances([]byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ReadAcceptances = %v; want %q", err, tt.want)
			}
		})
	}
	if got, err := ReadAcceptances(nil); err != nil || len(got) != 0 {
		t.Errorf("an empty file: %v, %v; want nothing", got, err)
	}
}

func TestReadManifest(t *testing.T) {
	got, err := ReadManifest([]byte(`kind: Cluster
spec:
  networking: {cilium: {}}
  target: {terraform: {}}
  hooks:
  - null
  - name: wait.service
    before: [protokube.service]
---
kind: List
items:
- kind: InstanceGroup
  metadata: {name: gpu}
  spec:
    additionalUserData:
    - {name: x, type: text/x-shellscript, content: "systemctl restart protokube"}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Manifest{Cilium: true, Terraform: true, ProtokubeRefs: []string{"spec.additionalUserData of group gpu", "spec.hooks of the cluster"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ReadManifest (-want +got):\n%s", diff)
	}
	if _, err := ReadManifest([]byte("a: [")); err == nil {
		t.Error("ReadManifest takes what is no YAML")
	}
}
