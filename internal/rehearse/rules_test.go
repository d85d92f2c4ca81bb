package rehearse

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

// perfect returns a rehearsal in which every rule held.
func perfect() *rehearsal {
	r := &rehearsal{cfg: Config{To: cluster.None}, complete: true}
	r.evidence = report.New("f", "t.k8s.local", "none")
	r.evidence.Nodes = 2
	r.evidence.Steps = []report.Step{{Actions: []report.Action{{Gates: []report.Gate{{Verdict: report.Pass}}}}}}
	r.evidence.PerNode = []report.Worker{{
		Name:  "w",
		Paths: []probe.Figures{{Path: probe.ByName, Sent: 10}, {Path: probe.LocalBalancer, Sent: 10}},
	}}
	r.evidence.Programs = []report.Program{{Program: "muster-agent", Modules: []string{"a v1"}}}
	return r
}

func TestRules(t *testing.T) {
	injected := time.Unix(100, 0)
	balancer := func(began time.Time) []probe.Sample {
		return []probe.Sample{{Path: probe.LocalBalancer, Began: began, Took: 10 * time.Millisecond, Err: "reset"}}
	}
	for _, tt := range []struct {
		name      string
		spoil     func(*rehearsal)
		failures  []probe.Sample
		gossiping []string
		breaks    string // the rule's short name; "" for none
	}{
		{name: "all held"},
		{name: "a gate stopped it", spoil: func(r *rehearsal) { r.complete = false }, breaks: "gates"},
		{name: "no gate was asked", spoil: func(r *rehearsal) { r.evidence.Steps = nil }, breaks: "gates"},
		{name: "a worker was without a path", spoil: func(r *rehearsal) {
			r.evidence.PerNode[0].Losses = []probe.Loss{{Lasts: time.Second}}
		}, breaks: "steady"},
		{name: "nothing was measured on a worker", spoil: func(r *rehearsal) {
			r.evidence.PerNode = append(r.evidence.PerNode, report.Worker{Name: "x"})
		}, breaks: "steady"},
		{name: "a connection through a balancer failed", failures: balancer(injected), breaks: "balancer"},
		{name: "no connection through a balancer was tried", spoil: func(r *rehearsal) {
			r.evidence.PerNode[0].Paths = r.evidence.PerNode[0].Paths[:1]
		}, breaks: "balancer"},
		{name: "one was under way when a fault struck", spoil: faultAt(injected, nil), failures: balancer(injected.Add(-5 * time.Millisecond))},
		{name: "one had ended before a fault struck", spoil: faultAt(injected, nil), failures: balancer(injected.Add(-time.Second)), breaks: "balancer"},
		{name: "one began after a fault struck", spoil: faultAt(injected, nil), failures: balancer(injected.Add(time.Second)), breaks: "balancer"},
		{name: "the load balancer's path failed, which is its own business", failures: []probe.Sample{{Path: probe.LoadBalancer, Err: "reset"}}},
		{name: "the name had no address", failures: []probe.Sample{{Path: probe.ByName, Err: "api " + probe.NoAddress + " in hosts"}}, breaks: "endpoints"},
		{name: "a fault did not strike", spoil: func(r *rehearsal) { r.fault = &injection{} }, breaks: "fault"},
		{name: "a fault failed to strike", spoil: faultAt(injected, errors.New("no")), breaks: "fault"},
		{name: "a node still gossips", gossiping: []string{"cp"}, breaks: "gossip"},
		{name: "no node was looked at", spoil: func(r *rehearsal) { r.evidence.Nodes = 0 }, breaks: "gossip"},
		{name: "hybrid lets the control plane gossip", spoil: func(r *rehearsal) { r.cfg.To = cluster.Hybrid }, gossiping: []string{"cp"}},
		{name: "hybrid lets no worker gossip", spoil: func(r *rehearsal) {
			r.cfg.To = cluster.Hybrid
			r.evidence.PerNode[0].GossipAfter.Processes = []string{"muster-peer"}
		}, breaks: "gossip"},
		{name: "the agent links an overlay", spoil: func(r *rehearsal) { r.evidence.Programs[0].Overlays = []string{"memberlist"} }, breaks: "privilege"},
		{name: "the agent links a cloud SDK", spoil: func(r *rehearsal) { r.evidence.Programs[0].Clouds = []string{"aws"} }, breaks: "privilege"},
		{name: "the agent was not inspected", spoil: func(r *rehearsal) { r.evidence.Programs = nil }, breaks: "privilege"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := perfect()
			if tt.spoil != nil {
				tt.spoil(r)
			}
			var broken []string
			for _, rule := range r.judge(tt.failures, tt.gossiping) {
				if name, _, _ := strings.Cut(rule.Name, ":"); !rule.Held {
					broken = append(broken, name)
				}
			}
			if got := strings.Join(broken, " "); got != tt.breaks {
				t.Errorf("broken rules %q; want %q", got, tt.breaks)
			}
		})
	}
}

// faultAt sets a fault whose injection takes 10 ms around a moment.
func faultAt(at time.Time, err error) func(*rehearsal) {
	return func(r *rehearsal) {
		r.fault = &injection{began: at.Add(-time.Millisecond), injected: at.Add(9 * time.Millisecond)}
		if err != nil {
			r.fault.report.Error = err.Error()
		}
	}
}

func TestNothingMeasuredHoldsNothing(t *testing.T) {
	r := &rehearsal{cfg: Config{To: cluster.None}, evidence: report.New("f", "c", "none")}
	for _, rule := range r.judge(nil, nil) {
		if rule.Held {
			t.Errorf("%q holds of nothing at all", rule.Name)
		}
	}
}

func TestRefusals(t *testing.T) {
	network := &cluster.LoadBalancer{Class: cluster.LoadBalancerNetwork}
	groups := []cluster.Group{{Name: "cp", Role: cluster.RoleControlPlane, MinSize: 1}, {Name: "n", Role: cluster.RoleNode, MinSize: 1}}
	for _, tt := range []struct {
		name    string
		cluster cluster.Cluster
		to      cluster.Topology
		list    bool
		want    string // in the first reason; "" for no refusal
	}{
		{"gossip with a network load balancer goes to none", cluster.Cluster{Name: "c.k8s.local", DNSType: cluster.DNSPrivate, API: cluster.API{LoadBalancer: network}}, cluster.None, false, ""},
		{"and to hybrid", cluster.Cluster{Name: "c.k8s.local", DNSType: cluster.DNSPrivate, API: cluster.API{LoadBalancer: network}}, cluster.Hybrid, false, ""},
		{"a classic one is refused, with the way around", cluster.Cluster{Name: "c.k8s.local", DNSType: cluster.DNSPrivate, API: cluster.API{LoadBalancer: &cluster.LoadBalancer{Class: cluster.LoadBalancerClassic}}}, cluster.None, false, "--endpoints list"},
		{"none is refused, with the way around", cluster.Cluster{Name: "c.k8s.local", DNSType: cluster.DNSPrivate}, cluster.None, false, "--endpoints list"},
		{"a list needs none", cluster.Cluster{Name: "c.k8s.local", DNSType: cluster.DNSPrivate}, cluster.None, true, ""},
		{"none to none stands as it is", cluster.Cluster{Name: "c.k8s.local", DNSType: cluster.DNSNone, API: cluster.API{LoadBalancer: network}}, cluster.None, false, ""},
		{"none does not go back to hybrid", cluster.Cluster{Name: "c.k8s.local", DNSType: cluster.DNSNone, API: cluster.API{LoadBalancer: network}}, cluster.Hybrid, false, "hybrid lies behind it"},
		{"hosted DNS is not ours", cluster.Cluster{Name: "c.example.com", DNSType: cluster.DNSPublic, API: cluster.API{LoadBalancer: network}}, cluster.None, false, "does not gossip"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.cluster
			c.Cloud, c.Groups = cluster.AWS, groups
			got := Refusals(&c, tt.to, tt.list)
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("refused: %q", got)
			case tt.want != "" && (len(got) == 0 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}
