package bykops_test

import (
	"cmp"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/kubetest"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/reconcile/bykops/kopstest"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
)

// fakeScene is a scene of lyra on a fake AWS in this process: three
// control-plane nodes, two workers, of kOps 1.35 and gossiping. change may alter
// what stands in front of the API, and balancer what the spec says of it.
func fakeScene(t *testing.T, change func(*kopstest.FakeState), balancer string) (*scene, kopstest.FakeAWS) {
	t.Helper()
	s, p := paperIn(t, &mem.Store{Name: "kops-state"}, kubetest.New(), change, balancer)
	s.poll = time.Second
	s.boot(time.Second)
	return s, p
}

// paperIn is the same, with its state in a store and without machines that boot.
func paperIn(t *testing.T, st store.Store, kube *kubetest.Server, change func(*kopstest.FakeState), balancer string) (*scene, kopstest.FakeAWS) {
	t.Helper()
	const name = "lyra.k8s.local"
	layout := store.Layout(name)
	for key, text := range map[string]string{
		layout.Config(): strings.Replace(lyra, networkSpec, cmp.Or(balancer, networkSpec), 1), layout.Group("control-plane-a"): instanceGroup("control-plane-a", "Master"), layout.Group("nodes-a"): instanceGroup("nodes-a", "Node"),
	} {
		if _, err := st.Put(t.Context(), key, []byte(text), store.Absent); err != nil {
			t.Fatal(err)
		}
	}
	p := kopstest.FakeAWS{Store: st}
	state := kopstest.FakeState{
		Cluster: name,
		Groups: []kopstest.FakeGroup{
			{Name: "control-plane-a", ID: "control-plane-a.masters." + name, Role: cluster.RoleControlPlane, First: 1, Balancers: []string{"api-lyra"}},
			{Name: "nodes-a", ID: "nodes-a." + name, Role: cluster.RoleNode, First: 1},
		},
		Balancers: []kopstest.FakeBalancer{{Name: "api-lyra", Class: "network", Ports: []int{443}, Addrs: []netip.Addr{netip.MustParseAddr(awstest.BalancerAddress)}}},
		Roles: []cloud.Role{
			{Name: "masters." + name, Roles: []cluster.Role{cluster.RoleControlPlane}, Kind: cloud.KindPolicy, Policies: map[string]string{
				"masters." + name: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`}},
			{Name: "nodes." + name, Roles: []cluster.Role{cluster.RoleNode}, Kind: cloud.KindPolicy, Policies: map[string]string{}},
		},
	}
	for n, u := range []awstest.UserData{members, workers} {
		u.Cluster = name
		state.Groups[n].Versions = []string{u.String()}
	}
	if change != nil {
		change(&state)
	}
	s := scenery(t, st, kube, p)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Put(t.Context(), state))
	must(s.find("1.35.2").Run(t.Context(), []string{"update", "cluster", "--name", name, "--create-kube-config=false", "--yes"}, func(string) {}))
	for n, g := range state.Groups {
		must(p.Change(t.Context(), func(s *kopstest.FakeState) error { // what was before the first update is no version to go back to
			s.Groups[n].First, s.Groups[n].Versions = 1, s.Groups[n].Versions[len(s.Groups[n].Versions)-1:]
			return nil
		}))
		must(p.Resize(t.Context(), g.Name, 3-n))
	}
	return s, p
}

// scenery is a scene of a fake AWS without machines that boot.
func scenery(t *testing.T, st store.Store, kube *kubetest.Server, p kopstest.FakeAWS) *scene {
	s := &scene{t: t, name: "lyra.k8s.local", state: st.URL(), store: st, provider: p, operator: p, kube: kube, overlay: &fakeOverlay{}}
	s.find = func(version string) *bykops.Kops {
		k := kopstest.Kops{Version: version, Store: st, Open: func(context.Context, string) (kopstest.Site, error) { return p, nil }}
		return &bykops.Kops{Path: "kops", Version: version, State: st.URL(), Start: func(ctx context.Context, args []string, out io.Writer) error {
			return k.Run(ctx, args, out)
		}}
	}
	return s
}

// release lets a plan's run pass every hold, on any leg.
func (s *scene) release(f plan.File) {
	s.t.Helper()
	err := reconcile.UpdateControl(s.t.Context(), s.store, s.name, reconcile.RunID(f), func(c *reconcile.Control) {
		for leg := 1; leg < 9; leg++ {
			for _, step := range f.Steps {
				c.Released = append(c.Released, reconcile.Release{Leg: leg, Step: report.StepKey(step), Request: reconcile.Request{By: "test"}})
			}
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// ids are the steps of a plan.
func ids(steps []plan.Planned) string {
	var all []string
	for _, s := range steps {
		all = append(all, s.ID)
	}
	return strings.Join(all, " ")
}

// remains is what a migration leaves behind, without what differs by chance:
// which instance is which, and when.
type remains struct {
	Groups    []kopstest.FakeGroup
	Instances []kopstest.FakeInstance
	Balancers []kopstest.FakeBalancer
	Roles     []cloud.Role
	Rules     []cloud.Rule
	Born      int // instances ever
	Store     map[string]string
	Cordoned  []string
	Evicted   int
	Restarts  int
	Left      int // pods of ours
	Held      []netip.Addr
}

func (s *scene) remains(p kopstest.FakeAWS) remains {
	s.t.Helper()
	state, err := p.Read(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	r := remains{
		Groups: state.Groups, Balancers: state.Balancers, Roles: state.Roles, Rules: state.Rules, Born: state.Born,
		Store: map[string]string{}, Evicted: len(s.kube.Evicted()), Restarts: s.kube.Restarts("dns-controller"), Left: len(s.kube.Pods("muster-")),
	}
	for _, i := range state.Instances {
		i.ID = ""
		r.Instances = append(r.Instances, i)
	}
	slices.SortFunc(r.Instances, func(a, b kopstest.FakeInstance) int { return strings.Compare(a.Group, b.Group) })
	keys, err := s.store.List(s.t.Context(), s.name)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, key := range keys {
		if strings.Contains(key, "/muster/") && !strings.HasSuffix(key, "bridge.json") {
			continue
		}
		o, err := s.store.Get(s.t.Context(), key)
		if err != nil {
			s.t.Fatal(err)
		}
		r.Store[key] = string(o.Data)
	}
	for _, name := range s.kube.Nodes() {
		if s.kube.Node(name).Spec.Unschedulable {
			r.Cordoned = append(r.Cordoned, name)
		}
	}
	s.overlay.mu.Lock()
	defer s.overlay.mu.Unlock()
	r.Held = s.overlay.held
	return r
}
