package cloudtest

import (
	stdcmp "cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Vendor is a fake of a vendor's API and what the API reveals.
type Vendor struct {
	Cloud cluster.Cloud
	// Serve returns the API of a world.
	Serve func(testing.TB, World) http.Handler
	// Connect returns a provider of [Name] for the server at url, with fast retries.
	Connect func(t testing.TB, url string) cloud.Provider
	// Credential is what Connect uses, if the vendor's format cannot contain [Secret]; it must not leak either.
	Credential string
	// Service returns the key of Gaps that a request belongs to, or anything else for prerequisites such as a login.
	Service func(*http.Request) string
	// Fail responds with the vendor's error body. The text contains a secret.
	Fail func(w http.ResponseWriter, status int, text string)
	// Seeds is the service that seeds come from.
	Seeds string
	// Gaps are the What of the [cloud.Gap] that a denied service leaves.
	Gaps map[string]string
	// UserData is true if the API returns user-data.
	UserData bool
	// Tokens is true if permissions are secrets in user-data.
	Tokens bool
	// Generations is true if old and new machines can be told apart.
	Generations bool
	// Ports are the listeners that kOps creates. Nil: 443 and 3988.
	Ports []int
	// Health is true if the API returns the health of targets.
	Health bool
	// VIPs are the load balancer's addresses.
	VIPs []netip.Addr
}

// generous is a deadline that a passing test never reaches.
const generous = 30 * time.Second

// Run runs the suite.
func Run(t *testing.T, v Vendor) {
	t.Run("seeds are the control plane alone, sorted", v.seeds)
	t.Run("kOps reads the first page only; here every page gives seeds", v.everyPage)
	t.Run("kOps looks in the default zone only; here every zone gives seeds", v.everyZone)
	t.Run("kOps stops at a hundred seeds; here nothing does", v.everySeed)
	t.Run("kOps matches a part of the tag; here a longer name is another cluster", v.otherCluster)
	t.Run("no seed is an error of its own kind", v.noSeed)
	t.Run("an instance without an address yet is neither a seed nor a failure", v.eventually)
	t.Run("groups have every instance", v.groups)
	t.Run("boot configuration is read, or a gap", v.boot)
	t.Run("an old instance has its own boot configuration", v.bootOfOld)
	t.Run("the load balancer has its listeners", v.balancer)
	t.Run("without a load balancer there is none, and no gap", v.withoutBalancer)
	t.Run("a denied service is a gap, and the rest is observed", v.refused)
	t.Run("if everything is denied there is an error", v.refusedAll)
	t.Run("throttling and server errors are retried", v.transient)
	t.Run("a service that stays down is retried until the deadline", v.down)
	t.Run("a service that never responds is retried until the deadline", v.silent)
	t.Run("every call is recorded with its permission", v.calls)
	t.Run("a provider is safe for concurrent use", v.concurrent)
}

func (v Vendor) provider(t testing.TB, w World, faults ...fault) (cloud.Provider, *server) {
	t.Helper()
	s := newServer(t, v, w, faults...)
	return v.Connect(t, s.URL), s
}

func (v Vendor) observe(t *testing.T, w World, faults ...fault) *cloud.Observation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), generous)
	defer cancel()
	p, _ := v.provider(t, w, faults...)
	o, err := p.Observe(ctx)
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	v.checkNoSecrets(t, o)
	return o
}

// checkNoSecrets fails if an observation contains a secret.
func (v Vendor) checkNoSecrets(t testing.TB, o *cloud.Observation) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if all := string(text) + fmt.Sprintf("%+v", *o); v.leaks(all) {
		at := max(strings.Index(all, Secret), strings.Index(all, v.credential()))
		t.Errorf("the observation contains a secret: …%s…", all[max(0, at-100):min(len(all), at+50)])
	}
}

func (v Vendor) leaks(text string) bool {
	return strings.Contains(text, Secret) || strings.Contains(text, v.credential())
}

func (v Vendor) credential() string { return stdcmp.Or(v.Credential, Secret) }

func (v Vendor) seeds(t *testing.T) { v.wantSeeds(t, Small()) }

func (v Vendor) wantSeeds(t *testing.T, w World) *server {
	t.Helper()
	p, s := v.provider(t, w)
	got, err := p.Seeds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(seedsOf(w), got, Addrs); diff != "" {
		t.Errorf("seeds (-want +got):\n%s", diff)
	}
	return s
}

func (v Vendor) everyPage(t *testing.T) {
	if n := v.wantSeeds(t, Large(130, 130)).count(v.Seeds); n < 2 {
		t.Errorf("the fake was asked for %s %d times; it has no pages and proves nothing", v.Seeds, n)
	}
}

func (v Vendor) everyZone(t *testing.T) {
	w := Small()
	for i := range w.Machines {
		w.Machines[i].Zone = 2 - i%2 // the first one is empty
	}
	v.wantSeeds(t, w)
}

func (v Vendor) everySeed(t *testing.T) {
	w := Large(101, 0)
	if len(seedsOf(w)) != 101 {
		t.Fatalf("the world has %d seeds", len(seedsOf(w)))
	}
	v.wantSeeds(t, w)
}

func (v Vendor) otherCluster(t *testing.T) {
	w := World{}
	w.add(Machine{Cluster: Name + "2", Group: "control-plane-a", Role: cluster.RoleControlPlane})
	w.add(Machine{Cluster: "big-" + Name, Group: "control-plane-a", Role: cluster.RoleControlPlane})
	p, _ := v.provider(t, w)
	got, err := p.Seeds(t.Context())
	if !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("seeds of other clusters: %v, %v", got, err)
	}
}

func (v Vendor) noSeed(t *testing.T) {
	w := Small()
	w.Machines = slices.DeleteFunc(w.Machines, func(m Machine) bool {
		return m.Cluster == Name && m.Role == cluster.RoleControlPlane && m.State != Stopped
	})
	p, _ := v.provider(t, w)
	got, err := p.Seeds(t.Context())
	if !errors.Is(err, cloud.ErrNotFound) || got != nil {
		t.Errorf("seeds without a control plane: %v, %v; want none and %v", got, err, cloud.ErrNotFound)
	}
	if err != nil && !strings.Contains(err.Error(), Name) {
		t.Errorf("the error %q does not name the cluster", err)
	}
}

func (v Vendor) eventually(t *testing.T) {
	w := Small()
	w.add(Machine{Group: "control-plane-b", Role: cluster.RoleControlPlane, Zone: 1, State: Listed})
	p, _ := v.provider(t, w)
	got, err := p.Seeds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(seedsOf(w), got, Addrs); diff != "" {
		t.Errorf("seeds (-want +got):\n%s", diff)
	}
	o := v.observe(t, w)
	newest := w.Machines[len(w.Machines)-1]
	for _, g := range o.Groups {
		for _, in := range g.Instances {
			if in.Name == newest.Name {
				if in.Addr.IsValid() {
					t.Errorf("the machine has the address %s, which nobody gave it", in.Addr)
				}
				return
			}
		}
	}
	t.Errorf("the machine %s is in no group", newest.Name)
}

// groupView is what is compared of a group.
type groupView struct {
	Role      cluster.Role
	Instances map[string]instanceView // by name
}

type instanceView struct {
	Addr       netip.Addr
	Generation cloud.Generation
}

func (v Vendor) groups(t *testing.T) {
	w := Small()
	want := map[string]groupView{}
	for _, m := range w.Own() {
		g, ok := want[m.Group]
		if !ok {
			g = groupView{Role: m.Role, Instances: map[string]instanceView{}}
			want[m.Group] = g
		}
		in := instanceView{Addr: m.Addr, Generation: cloud.GenerationUnknown}
		if v.Generations {
			in.Generation = cloud.GenerationNew
			if m.Old {
				in.Generation = cloud.GenerationOld
			}
		}
		g.Instances[m.Name] = in
	}
	o := v.observe(t, w)
	got := map[string]groupView{}
	for _, g := range o.Groups {
		s := groupView{Role: g.Role, Instances: map[string]instanceView{}}
		for _, in := range g.Instances {
			s.Instances[in.Name] = instanceView{Addr: in.Addr, Generation: in.Generation}
			if in.ID == "" || in.State == "" || in.Zone == "" {
				t.Errorf("%s has no ID, state or zone: %+v", in.Name, in)
			}
		}
		got[g.Name] = s
	}
	if diff := cmp.Diff(want, got, Addrs); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if o.Cluster != Name || o.Cloud != v.Cloud {
		t.Errorf("observed %s on %s, want %s on %s", o.Cluster, o.Cloud, Name, v.Cloud)
	}
	if !slices.IsSortedFunc(o.Groups, func(a, b cloud.Group) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("groups are not sorted by name")
	}
}

func (v Vendor) boot(t *testing.T) {
	o := v.observe(t, Small())
	for _, g := range o.Groups {
		gap := hasGap(o, "boot configuration", g.Name)
		if !v.UserData {
			if g.Template.Boot != nil || !gap {
				t.Errorf("group %s: boot %+v, a gap: %v; this vendor gives no user-data", g.Name, g.Template.Boot, gap)
			}
			continue
		}
		b := g.Template.Boot
		if b == nil || gap {
			t.Errorf("group %s has no boot configuration; gaps: %v", g.Name, o.Gaps)
			continue
		}
		if b.Cluster != Name || b.Group != g.Name || b.Role != g.Role || g.Template.Hash == "" {
			t.Errorf("group %s boots with %+v, hash %q", g.Name, b, g.Template.Hash)
		}
		if g.Role == cluster.RoleNode && !slices.Equal(b.Servers, []string{"https://" + PrivateVIP.String() + ":3988/"}) {
			t.Errorf("group %s asks %v", g.Name, b.Servers)
		}
	}
	if v.UserData && v.Tokens {
		v.tokens(t, o)
	}
}

func (v Vendor) bootOfOld(t *testing.T) {
	if !v.UserData || !v.Generations {
		t.Skipf("%s tells no old instance's user-data", v.Cloud)
	}
	for _, g := range v.observe(t, Small()).Groups {
		for _, in := range g.Instances {
			old := in.Generation == cloud.GenerationOld
			if gossips := in.Boot != nil && in.Boot.ConfigBase != ""; gossips != old {
				t.Errorf("%s is %s and was born with %+v", in.Name, in.Generation, in.Boot)
			}
		}
	}
}

// tokens checks that the secret of an old worker is found.
func (v Vendor) tokens(t *testing.T, o *cloud.Observation) {
	t.Helper()
	held := map[string]bool{}
	for _, r := range o.Roles {
		if r.Kind != cloud.KindToken || len(r.Roles) != 1 {
			t.Errorf("role %+v is no token of one role", r)
		}
		held[r.Name] = strings.Contains(strings.Join(r.Bindings, " "), Exported)
	}
	for _, g := range o.Groups {
		if want := g.Name != "nodes-b"; held[g.Template.Permissions] != want {
			t.Errorf("group %s carries %s: %v, want %v; roles %+v", g.Name, Exported, !want, want, o.Roles)
		}
	}
}

func hasGap(o *cloud.Observation, what, subject string) bool {
	return slices.ContainsFunc(o.Gaps, func(g cloud.Gap) bool { return g.What == what && g.Subject == subject })
}

func (v Vendor) balancer(t *testing.T) {
	w := Small()
	o := v.observe(t, w)
	if len(o.LoadBalancers) != 1 {
		t.Fatalf("%d load balancers, want 1; gaps: %v", len(o.LoadBalancers), o.Gaps)
	}
	lb := o.LoadBalancers[0]
	if diff := cmp.Diff(v.VIPs, lb.Addresses, Addrs); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	ports := v.Ports
	if ports == nil {
		ports = []int{443, 3988}
	}
	for _, port := range ports {
		l, ok := lb.Listener(port)
		if !ok {
			t.Errorf("no listener at %d: %+v", port, lb.Listeners)
			continue
		}
		if len(l.Targets) != len(w.ControlPlane()) {
			t.Errorf("port %d has %d targets, want %d: %+v", port, len(l.Targets), len(w.ControlPlane()), l.Targets)
		}
		healthy := len(w.ControlPlane())
		if port == 3988 {
			healthy--
		}
		if !v.Health {
			healthy = 0
		}
		if l.Healthy() != healthy {
			t.Errorf("port %d has %d healthy targets, want %d: %+v", port, l.Healthy(), healthy, l.Targets)
		}
		if l.Protocol == "" || v.Health && l.Check == "" {
			t.Errorf("port %d: protocol %q, check %q", port, l.Protocol, l.Check)
		}
	}
	if len(lb.Listeners) != len(ports) {
		t.Errorf("listeners %+v, want ports %v", lb.Listeners, ports)
	}
	if !v.Health && !hasGap(o, "target health", lb.Name) {
		t.Errorf("health is unknown, and no gap says so: %v", o.Gaps)
	}
}

func (v Vendor) withoutBalancer(t *testing.T) {
	w := Small()
	w.Balanced = false
	o := v.observe(t, w)
	if len(o.LoadBalancers) != 0 {
		t.Errorf("load balancers out of nowhere: %+v", o.LoadBalancers)
	}
	if hasGap(o, "load balancers", "") {
		t.Errorf("none is taken for unknown: %v", o.Gaps)
	}
}

func (v Vendor) refused(t *testing.T) {
	whole := v.observe(t, Small())
	for service, what := range v.Gaps {
		t.Run(service, func(t *testing.T) {
			o := v.observe(t, Small(), fault{service: service, status: http.StatusForbidden})
			if !slices.ContainsFunc(o.Gaps, func(g cloud.Gap) bool { return g.What == what && strings.Contains(g.Why, "403") }) {
				t.Errorf("no gap about %s says 403: %v", what, o.Gaps)
			}
			if service != v.Seeds && what != "instance groups" && len(o.Groups) != len(whole.Groups) {
				t.Errorf("%d groups without %s, %d with it", len(o.Groups), service, len(whole.Groups))
			}
			if what != "load balancers" && len(o.LoadBalancers) != len(whole.LoadBalancers) {
				t.Errorf("%d load balancers without %s, %d with it", len(o.LoadBalancers), service, len(whole.LoadBalancers))
			}
			if what == "network rules" && !o.Network.Partial {
				t.Error("rules could not be read, and their absence passes for a proof")
			}
		})
	}
}

func (v Vendor) refusedAll(t *testing.T) {
	p, _ := v.provider(t, Small(), fault{status: http.StatusUnauthorized})
	_, err := p.Seeds(t.Context())
	v.wantKind(t, "seeds", err, cloud.ErrDenied)
	o, err := p.Observe(t.Context())
	v.wantKind(t, "observe", err, cloud.ErrDenied)
	if o != nil {
		t.Errorf("an observation beside the error: %+v", o)
	}
}

// wantKind checks that an error has a kind, is one line, and contains no secret.
func (v Vendor) wantKind(t *testing.T, what string, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v; want an error of kind %q", what, err, kind)
	}
	if err != nil && (v.leaks(err.Error()) || strings.Contains(err.Error(), "\n")) {
		t.Errorf("%s: the error holds a secret or has more than one line: %q", what, err)
	}
}

func (v Vendor) transient(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable} {
		o := v.observe(t, Small(), fault{status: status, times: 3})
		clean := v.observe(t, Small())
		if diff := cmp.Diff(clean.Gaps, o.Gaps); diff != "" {
			t.Errorf("after three answers of %d gaps differ (-without +with):\n%s", status, diff)
		}
		if len(o.Groups) != len(clean.Groups) {
			t.Errorf("after three answers of %d: %d groups, want %d", status, len(o.Groups), len(clean.Groups))
		}
	}
}

// short is a deadline that a test is meant to reach.
const short = 300 * time.Millisecond

func (v Vendor) down(t *testing.T) {
	v.untilDeadline(t, fault{service: v.Seeds, status: http.StatusTooManyRequests})
}
func (v Vendor) silent(t *testing.T) { v.untilDeadline(t, fault{service: v.Seeds}) }

func (v Vendor) untilDeadline(t *testing.T, f fault) {
	p, s := v.provider(t, Small(), f)
	// A slow machine may get no further than the first attempt: try again with a longer deadline.
	for timeout := short; ; timeout *= 4 {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		start, before := time.Now(), s.count(v.Seeds)
		_, err := p.Seeds(ctx)
		cancel()
		v.wantKind(t, "seeds", err, cloud.ErrTransient)
		if took := time.Since(start); took > generous {
			t.Errorf("it took %s with a deadline of %s", took, timeout)
		}
		attempts := s.count(v.Seeds) - before
		if f.status == 0 || attempts > 1 {
			return
		}
		if timeout > generous/4 {
			t.Errorf("%d attempts within %s; want retries", attempts, timeout)
			return
		}
	}
}

func (v Vendor) calls(t *testing.T) {
	o := v.observe(t, Small())
	if len(o.Calls) == 0 {
		t.Fatal("no call was written down")
	}
	for _, c := range o.Calls {
		if c.Action == "" || c.Resource == "" || strings.Contains(c.Action, " /") {
			t.Errorf("call %+v has no name", c)
		}
	}
	if !slices.ContainsFunc(o.Calls, func(c cloud.Call) bool { return c.Permission != "" }) {
		t.Errorf("no call names the permission it needs: %+v", o.Calls)
	}
}

func (v Vendor) concurrent(t *testing.T) {
	p, _ := v.provider(t, Small())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := p.Seeds(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			o, err := p.Observe(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if len(o.Calls) == 0 {
				t.Error("an observation without calls: another one has them")
			}
		})
	}
	wg.Wait()
}

// seedsOf returns the seeds that a world must have.
func seedsOf(w World) (seeds []netip.Addr) {
	for _, m := range w.Own() {
		if m.Role == cluster.RoleControlPlane && m.State != Stopped && m.Addr.IsValid() {
			seeds = append(seeds, m.Addr)
		}
	}
	slices.SortFunc(seeds, netip.Addr.Compare)
	return seeds
}
