package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// sample is a description of a cluster on AWS, as much of it as a plan needs.
type sample struct {
	About             string
	Cluster           string
	AutoScalingGroups []struct {
		Name, LaunchTemplate string
		Desired, Min, Max    int
		Tags                 map[string]string
		TargetGroups         []string
	}
	LaunchTemplates []struct{ ID, Name, UserData string }
	LoadBalancers   []struct {
		ARN, Name, Scheme, Type string
		Listeners               []struct {
			Port        int
			TargetGroup string
		}
	}
	ClassicLoadBalancers   []struct{ Name, Scheme string }
	LoadBalancerInterfaces []struct{ IP string }
	Roles                  []struct {
		Name   string
		Inline map[string]json.RawMessage
	}
	Store struct{ Objects map[string]string }
}

// readSample reads one of the shared samples, or skips loudly.
func readSample(t *testing.T, name string) sample {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "samples", "aws", name+".json")
	data, err := os.ReadFile(path)
	if err != nil {
		if os.Getenv("MUSTER_REQUIRE_ALL") != "" {
			t.Fatalf("sample %s: %v", name, err)
		}
		t.Skipf("SKIPPED: no plan for sample %s was looked for: %v", name, err)
	}
	var s sample
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// spec reads the sample's cluster and groups out of its state store.
func (s sample) spec(t *testing.T) (*cluster.Cluster, cluster.Release) {
	t.Helper()
	var manifest bytes.Buffer
	manifest.WriteString(s.Store.Objects[s.Cluster+"/config"])
	for key, text := range s.Store.Objects {
		if strings.Contains(key, "/instancegroup/") {
			manifest.WriteString("\n---\n" + text)
		}
	}
	c, err := cluster.Parse("sample", manifest.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	r, err := cluster.ParseRelease(strings.TrimSpace(s.Store.Objects[s.Cluster+"/kops-version.txt"]))
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

func (s sample) stored() Stored {
	st := Stored{Rendered: map[string]bool{}, Controller: cloud.No}
	none := regexp.MustCompile(`(?m)^usesNoneDNS: true$`)
	for key, text := range s.Store.Objects {
		if strings.HasSuffix(key, "/nodeupconfig.yaml") {
			st.Rendered[filepath.Base(filepath.Dir(key))] = none.MatchString(text)
		}
		if strings.Contains(key, "/dns-controller.addons.k8s.io/") && strings.TrimSpace(text) != "" {
			st.Controller = cloud.Yes
		}
	}
	return st
}

// observation is the sample as the cloud layer would report it, every instance from
// the newest template.
func (s sample) observation(t *testing.T) *cloud.Observation {
	t.Helper()
	o := &cloud.Observation{Cluster: s.Cluster, Cloud: cluster.AWS}
	templates := map[string]cloud.Template{}
	for _, lt := range s.LaunchTemplates {
		boot, err := bootconfig.Parse([]byte(lt.UserData))
		if err != nil {
			t.Fatalf("template %s: %v", lt.Name, err)
		}
		templates[lt.Name] = cloud.Template{ID: lt.ID, Version: "1", Hash: bootconfig.Hash([]byte(lt.UserData)), Boot: boot}
	}
	behind := map[string][]cloud.Target{}
	for _, g := range s.AutoScalingGroups {
		group := cloud.Group{
			Name: g.Tags["kops.k8s.io/instancegroup"], ID: g.Name, Role: cluster.RoleNode,
			Min: g.Min, Max: g.Max, Desired: g.Desired, Template: templates[g.LaunchTemplate],
		}
		if _, ok := g.Tags["k8s.io/role/control-plane"]; ok {
			group.Role = cluster.RoleControlPlane
		}
		for i := range g.Desired {
			id := g.Name + "-" + string(rune('0'+i))
			group.Instances = append(group.Instances, cloud.Instance{ID: id, State: "running", Generation: cloud.GenerationNew, Version: "1"})
			for _, tg := range g.TargetGroups {
				behind[tg] = append(behind[tg], cloud.Target{ID: id, Health: cloud.TargetHealthy})
			}
		}
		o.Groups = append(o.Groups, group)
	}
	for _, b := range s.LoadBalancers {
		lb := cloud.LoadBalancer{ID: b.ARN, Name: b.Name, Class: b.Type, Scheme: b.Scheme}
		for _, i := range s.LoadBalancerInterfaces {
			lb.Addresses = append(lb.Addresses, netip.MustParseAddr(i.IP))
		}
		for _, l := range b.Listeners {
			lb.Listeners = append(lb.Listeners, cloud.Listener{Port: l.Port, Targets: behind[l.TargetGroup]})
		}
		o.LoadBalancers = append(o.LoadBalancers, lb)
	}
	for _, b := range s.ClassicLoadBalancers {
		o.LoadBalancers = append(o.LoadBalancers, cloud.LoadBalancer{Name: b.Name, Class: "classic", Scheme: b.Scheme})
	}
	for _, r := range s.Roles {
		role := cloud.Role{Name: r.Name, Kind: cloud.KindPolicy, Roles: []cluster.Role{cluster.RoleNode}, Policies: map[string]string{}}
		for name, text := range r.Inline {
			role.Policies[name] = string(text)
			if strings.HasPrefix(name, "masters.") {
				role.Roles[0] = cluster.RoleControlPlane
			}
		}
		o.Roles = append(o.Roles, role)
	}
	o.Network.Rules = []cloud.Rule{{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Protocol: "tcp", Low: 2382, High: 4000}}
	return o
}

func TestEachSampleHasAPlanOrTheRightRefusal(t *testing.T) {
	for _, test := range []struct {
		sample string
		ask    Options
		want   string // steps, or "refused: " and how the reason begins
		max    int    // replacements per worker
	}{
		{"gossip-1.35", Options{}, "expose prove publish add-policy set-none update-workers canary roll-workers withdraw remove-policy update-control-plane roll-control-plane remove-dns-controller close-ports scrub", 1},
		{"gossip-1.35", Options{NoBridge: true}, "expose prove update-workers-held canary roll-workers set-none update-workers canary roll-workers update-control-plane roll-control-plane remove-dns-controller close-ports scrub", 2},
		{"gossip-1.35", Options{To: cluster.Hybrid}, "expose prove add-policy update-workers canary roll-workers remove-policy", 1},
		{"gossip-1.35-classic-lb", Options{}, "make-balancer expose prove publish add-policy set-none update-workers canary roll-workers withdraw remove-policy update-control-plane roll-control-plane remove-dns-controller close-ports drop-classic scrub", 1},
		{"gossip-1.35-classic-lb", Options{Endpoints: Addresses}, "make-balancer hold-addresses serve prove add-policy set-none add-agent update-workers canary roll-workers remove-policy update-control-plane roll-control-plane remove-dns-controller close-ports drop-classic scrub", 1},
		{"gossip-1.35-no-lb", Options{}, "refused: there is no load balancer that could serve nodes, and none may be made", 0},
		{"gossip-1.35-no-lb", Options{Endpoints: Addresses}, "hold-addresses serve prove add-policy set-none add-agent update-workers canary roll-workers remove-policy update-control-plane roll-control-plane remove-dns-controller close-ports scrub", 1},
		{"gossip-1.35-no-lb", Options{CreateBalancer: true}, "make-balancer expose prove publish add-policy set-none update-workers canary roll-workers withdraw remove-policy update-control-plane roll-control-plane remove-dns-controller close-ports scrub", 1},
		{"hybrid-1.36", Options{}, "prove set-none update-workers canary roll-workers update-control-plane roll-control-plane remove-dns-controller close-ports scrub", 1},
		{"hybrid-1.36", Options{To: cluster.Hybrid}, "", 0},
		{"hybrid-1.36", Options{To: cluster.Gossip}, "refused: gossip would let workers do more in the cloud than they may now", 0},
		{"hybrid-1.36-empty-endpoints", Options{}, "prove set-none update-workers canary roll-workers update-control-plane roll-control-plane remove-dns-controller close-ports scrub", 1},
		{"none-1.36", Options{}, "", 0},
	} {
		t.Run(test.sample+" "+string(test.ask.To)+string(test.ask.Endpoints), func(t *testing.T) {
			s := readSample(t, test.sample)
			c, r := s.spec(t)
			p, err := FromObservation(c, r, s.stored(), s.observation(t), test.ask)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Starts) != 1 {
				t.Errorf("%d starts; the sample leaves nothing open: %+v", len(p.Starts), p.Starts)
			}
			pl := mustFind(t, &p)
			got := strings.Join(ids(pl), " ")
			if pl.Refused != nil {
				got = "refused: " + pl.Refused.Why
			}
			if got != test.want && !(strings.HasPrefix(test.want, "refused: ") && strings.HasPrefix(got, test.want)) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if pl.Replaced.MaxPerWorker != test.max {
				t.Errorf("each worker is replaced %d times, want %d", pl.Replaced.MaxPerWorker, test.max)
			}
		})
	}
}

// No plan leaves people who had a load balancer without one, whatever the options;
// this checks the states directly, independently of the invariant.
func TestNoPlanTakesThePeoplesLastAddress(t *testing.T) {
	for _, name := range []string{"gossip-1.35", "gossip-1.35-classic-lb", "gossip-1.35-no-lb", "hybrid-1.36", "hybrid-1.36-empty-endpoints", "none-1.36"} {
		s := readSample(t, name)
		c, r := s.spec(t)
		for _, endpoints := range []Endpoints{Balancer, Addresses} {
			for _, via := range Executors() {
				t.Run(fmt.Sprintf("%s %s via %s", name, endpoints, via), func(t *testing.T) {
					p, err := FromObservation(c, r, s.stored(), s.observation(t), Options{Endpoints: endpoints, Via: via})
					if err != nil {
						t.Fatal(err)
					}
					pl := mustFind(t, &p)
					for i, step := range pl.Steps {
						was, _ := carriedOut(t, pl, i)
						is, _ := carriedOut(t, pl, i+1)
						if (was.Classic || was.Network && was.API) && !is.Classic && !(is.Network && is.API) {
							t.Errorf("step %d (%s) leaves people without an address: %s", step.Number, step.ID, is)
						}
					}
				})
			}
		}
	}
}
