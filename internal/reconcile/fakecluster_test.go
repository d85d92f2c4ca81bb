package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/report"
)

// fakeCluster is the smallest cluster that can be migrated. It outlives the
// process that works on it, in memory or in a file.
type fakeCluster struct {
	Flags    plan.State // all but what follows from nodes
	Workers  []fakeNode
	Members  []fakeNode
	Half     map[string]string // old node -> the new one that stands beside it, or "away"
	Serial   int
	Edits    int            // how often somebody else edited the spec
	Replaced map[string]int // how often each place of the beginning was filled anew
	Lowest   int            // fewest control-plane nodes ever up
	Trace    []string       // every change, in order
}

// fakeNode is a node.
type fakeNode struct {
	Name, Group, Place string
	Class              plan.Class
}

func newFakeCluster() *fakeCluster {
	t := &fakeCluster{
		Flags: plan.State{Network: true, API: true, Lookup: true, Controller: true, Ports: true, Templates: plan.Set(plan.Gossip)},
		Half:  map[string]string{}, Replaced: map[string]int{}, Lowest: 3,
	}
	for _, n := range []string{"cp-1", "cp-2", "cp-3"} {
		t.Members = append(t.Members, fakeNode{Name: n, Group: "control-plane", Place: n})
	}
	for i, g := range []string{"nodes-a", "nodes-a", "nodes-b", "nodes-b"} {
		n := fmt.Sprintf("%s-%d", g, i)
		t.Workers = append(t.Workers, fakeNode{Name: n, Group: g, Place: n})
	}
	return t
}

// problem is what to plan for the cluster as it is.
func (t *fakeCluster) problem() plan.Problem {
	return plan.Problem{
		Cluster: "atlas.k8s.local", Cloud: cluster.AWS, From: cluster.Gossip, To: cluster.None, Via: plan.Kops, Endpoints: plan.Balancer,
		BalancerAddresses: 3, Starts: []plan.Start{{State: t.state()}},
		Groups: []plan.Group{
			{Name: "control-plane", Role: cluster.RoleControlPlane, Live: map[string]int{"gossip": 3}},
			{Name: "nodes-a", Role: cluster.RoleNode, Live: map[string]int{"gossip": 2}},
			{Name: "nodes-b", Role: cluster.RoleNode, Live: map[string]int{"gossip": 2}},
		},
	}
}

// planned is the plan that is found for a new cluster.
var planned = sync.OnceValue(func() plan.File {
	t := newFakeCluster()
	pl, err := plan.Find(context.Background(), t.problem())
	if err != nil || pl.Refused != nil {
		panic(fmt.Sprintf("no plan: %v %+v", err, pl.Refused))
	}
	return plan.Seal(pl, t.facts())
})

func (t *fakeCluster) state() plan.State {
	s := t.Flags
	for _, p := range t.Workers {
		s.Live |= plan.Set(p.Class)
	}
	for _, p := range t.Members {
		switch {
		case t.Half[p.Name] == "away":
			s.Away++
		case p.Class == plan.Gossip:
			s.Members.GossipKnown++
		default:
			s.Members.QuietKnown++
		}
	}
	return s
}

func (t *fakeCluster) facts() []plan.Fact {
	s := t.state()
	fact := func(subject, what string, value any) plan.Fact {
		sum := sha256.Sum256([]byte(fmt.Sprint(value)))
		return plan.Fact{Subject: subject, What: what, Value: fmt.Sprint(value), Digest: hex.EncodeToString(sum[:])}
	}
	return []plan.Fact{
		fact("atlas.k8s.local", "spec", fmt.Sprint(s.None, t.Edits)),
		fact("nodes", "generations", s.Live), fact("nodes", "templates", s.Templates),
		fact("api", "listeners", s.Config), fact("nodes.atlas", "permissions", fmt.Sprint(s.Lookup, s.PolicyBridge)),
		fact("control-plane", "generations", s.Members.QuietKnown > 0),
	}
}

// backend keeps a cluster.
type backend interface {
	look() (fakeCluster, error)
	change(f func(*fakeCluster)) error
}

// memoryBackend keeps a cluster in memory.
type memoryBackend struct {
	mu sync.Mutex
	t  *fakeCluster
}

func (m *memoryBackend) look() (fakeCluster, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return clone(*m.t), nil
}

func (m *memoryBackend) change(f func(*fakeCluster)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m.t)
	return nil
}

func clone(t fakeCluster) fakeCluster {
	t.Workers, t.Members, t.Trace = slices.Clone(t.Workers), slices.Clone(t.Members), slices.Clone(t.Trace)
	t.Half, t.Replaced = maps.Clone(t.Half), maps.Clone(t.Replaced)
	return t
}

// fileBackend keeps a cluster in a file, so that it outlives a process that is killed.
type fileBackend string

func (d fileBackend) look() (fakeCluster, error) {
	var t fakeCluster
	data, err := os.ReadFile(string(d))
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	return t, err
}

func (d fileBackend) change(f func(*fakeCluster)) error {
	t, err := d.look()
	if err != nil {
		return err
	}
	f(&t)
	return d.put(t)
}

func (d fileBackend) put(t fakeCluster) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := os.WriteFile(string(d)+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(string(d)+".new", string(d))
}

// fakeExecutor carries steps out on a cluster.
type fakeExecutor struct {
	backend
	fuse *killtest.Fuse
	// hook may alter or break an action before it is returned.
	hook func(step string, a *Action)
	// lookErr, if set, fails every Look.
	lookErr error
	aborted []string
	calls   int
}

// change is one change of the world, before and after which a process may die.
func (m *fakeExecutor) act(what string, f func(*fakeCluster)) error {
	return m.fuse.Around(func() error {
		return m.change(func(t *fakeCluster) {
			f(t)
			t.Trace = append(t.Trace, what)
			t.Lowest = min(t.Lowest, int(t.state().Members.GossipKnown+t.state().Members.QuietKnown))
		})
	})
}

func (m *fakeExecutor) Look(ctx context.Context) (World, error) {
	if err := errors.Join(m.fuse.Dead(), ctx.Err(), m.lookErr); err != nil {
		return World{}, err
	}
	t, err := m.look()
	if err != nil {
		return World{}, err
	}
	// What no look can show: the driver has to know it from its journal.
	s := t.state()
	s.Proven, s.Bridge = false, false
	s.Lookup = s.Lookup || s.PolicyBridge
	s.PolicyBridge = false
	return World{Facts: t.facts(), States: []plan.State{s}}, nil
}

// toggles are the steps that change one thing, with whether it is done.
var toggles = map[string]struct {
	done func(*fakeCluster) bool
	do   func(*fakeCluster)
}{
	"expose":        {func(t *fakeCluster) bool { return t.Flags.Config }, func(t *fakeCluster) { t.Flags.Config = true }},
	"publish":       {func(t *fakeCluster) bool { return t.Flags.Bridge }, func(t *fakeCluster) { t.Flags.Bridge = true }},
	"withdraw":      {func(t *fakeCluster) bool { return !t.Flags.Bridge }, func(t *fakeCluster) { t.Flags.Bridge = false }},
	"add-policy":    {func(t *fakeCluster) bool { return t.Flags.PolicyBridge }, func(t *fakeCluster) { t.Flags.PolicyBridge = true }},
	"remove-policy": {func(t *fakeCluster) bool { return !t.Flags.PolicyBridge }, func(t *fakeCluster) { t.Flags.PolicyBridge = false }},
	"set-none":      {func(t *fakeCluster) bool { return t.Flags.None }, func(t *fakeCluster) { t.Flags.None = true }},
	"unset-none":    {func(t *fakeCluster) bool { return !t.Flags.None }, func(t *fakeCluster) { t.Flags.None = false }},
	"update-workers": {func(t *fakeCluster) bool { return t.Flags.Templates == plan.Set(plan.None) }, func(t *fakeCluster) {
		t.Flags.Templates, t.Flags.Lookup, t.Flags.Old = plan.Set(plan.None), false, true
	}},
	"update-control-plane": {func(t *fakeCluster) bool { return t.Flags.Quiet }, func(t *fakeCluster) { t.Flags.Quiet = true }},
	"restore-workers": {func(t *fakeCluster) bool {
		return t.Flags.Templates == plan.Set(plan.Gossip) && t.Flags.Controller && t.Flags.Lookup
	}, func(t *fakeCluster) {
		t.Flags.Templates, t.Flags.Lookup, t.Flags.Controller = plan.Set(plan.Gossip), true, true
	}},
	"restore-control-plane": {func(t *fakeCluster) bool { return !t.Flags.Quiet && t.Flags.Controller }, func(t *fakeCluster) { t.Flags.Quiet, t.Flags.Controller, t.Flags.Lookup = false, true, true }},
	"remove-dns-controller": {func(t *fakeCluster) bool { return !t.Flags.Controller }, func(t *fakeCluster) { t.Flags.Controller = false }},
	"narrow":                {func(t *fakeCluster) bool { return !t.Flags.Lookup }, func(t *fakeCluster) { t.Flags.Lookup = false }},
	"close-ports":           {func(t *fakeCluster) bool { return !t.Flags.Ports }, func(t *fakeCluster) { t.Flags.Ports = false }},
	"scrub":                 {func(t *fakeCluster) bool { return !t.Flags.Old }, func(t *fakeCluster) { t.Flags.Old = false }},
}

func (m *fakeExecutor) Actions(ctx context.Context, s plan.Planned) ([]Action, error) {
	if err := errors.Join(m.fuse.Dead(), ctx.Err()); err != nil {
		return nil, err
	}
	t, err := m.look()
	if err != nil {
		return nil, err
	}
	var all []Action
	switch s.ID {
	case "prove":
		all = []Action{{ID: "call", What: "call both ports"}}
	case "canary", "roll-workers":
		all = m.replaceWorkers(&t, s.ID == "canary")
	case "roll-control-plane":
		all = m.replaceMembers(&t)
	default:
		toggle, ok := toggles[s.ID]
		if !ok {
			return nil, fmt.Errorf("no step %q", s.ID)
		}
		if !toggle.done(&t) {
			all = []Action{{ID: s.ID, What: s.Title, Do: func(_ context.Context, say func(string)) error {
				say("doing " + s.ID)
				return m.act(s.ID, toggle.do)
			}}}
		}
	}
	m.decorate(s.ID, all)
	m.calls++
	return all, nil
}

// Verify implements Verifier.
func (m *fakeExecutor) Verify(ctx context.Context, s plan.Planned, begun []UnverifiedAction) ([]Action, error) {
	if err := errors.Join(m.fuse.Dead(), ctx.Err()); err != nil {
		return nil, err
	}
	var all []Action
	for _, b := range begun {
		all = append(all, Action{ID: b.ID, What: b.What, Group: b.Group, Node: b.Node, Replaces: b.Replaces})
	}
	m.decorate(s.ID, all)
	return all, nil
}

// decorate gives actions what each has.
func (m *fakeExecutor) decorate(step string, all []Action) {
	for i := range all {
		all[i].Gates = append(all[i].Gates, Gate{Name: "it is so", Check: func(context.Context) (report.Verdict, string) {
			if err := m.fuse.Dead(); err != nil {
				return report.Unknown, err.Error()
			}
			return report.Pass, "seen"
		}})
		id := all[i].ID
		all[i].Abort = func(context.Context) (string, error) {
			m.aborted = append(m.aborted, id)
			return "tidied up " + id, m.fuse.Dead()
		}
		if m.hook != nil {
			m.hook(step, &all[i])
		}
	}
}

// wanted is what a node of a template of now is.
func (t *fakeCluster) wanted() (c plan.Class) {
	for c = range t.Flags.Templates.Each {
		break
	}
	return c
}

func (m *fakeExecutor) replaceWorkers(t *fakeCluster, canary bool) (all []Action) {
	seen := map[string]bool{}
	if canary {
		for _, p := range t.Workers { // a group with a new node has had its canary
			half := slices.Contains(slices.Collect(maps.Values(t.Half)), p.Name)
			seen[p.Group] = seen[p.Group] || p.Class == t.wanted() && !half
		}
	}
	for _, p := range t.Workers {
		if p.Class == t.wanted() || seen[p.Group] {
			continue
		}
		seen[p.Group] = canary
		all = append(all, Action{ID: p.Name, What: "replace " + p.Name, Group: p.Group, Node: p.Name, Canary: canary, Replaces: 1, Do: func(_ context.Context, say func(string)) error {
			if t.Half[p.Name] == "" {
				say("adding one for " + p.Name)
				if err := m.act("add for "+p.Name, func(t *fakeCluster) {
					t.Serial++
					n := fakeNode{Name: fmt.Sprintf("new-%d", t.Serial), Group: p.Group, Place: p.Place, Class: t.wanted()}
					t.Half[p.Name] = n.Name
					t.Workers = append(t.Workers, n)
					t.Replaced[p.Place]++
				}); err != nil {
					return err
				}
			}
			say("removing " + p.Name)
			return m.act("remove "+p.Name, func(t *fakeCluster) {
				delete(t.Half, p.Name)
				t.Workers = slices.DeleteFunc(t.Workers, func(o fakeNode) bool { return o.Name == p.Name })
			})
		}})
	}
	return all
}

func (m *fakeExecutor) replaceMembers(t *fakeCluster) (all []Action) {
	class := plan.Gossip
	if t.Flags.Quiet {
		class = plan.None
	}
	for _, p := range t.Members {
		if p.Class == class {
			continue
		}
		all = append(all, Action{ID: p.Name, What: "replace " + p.Name, Group: p.Group, Node: p.Name, Replaces: 1, Do: func(context.Context, func(string)) error {
			if t.Half[p.Name] == "" {
				if err := m.act("take down "+p.Name, func(t *fakeCluster) { t.Half[p.Name] = "away" }); err != nil {
					return err
				}
			}
			return m.act("replace "+p.Name, func(t *fakeCluster) {
				delete(t.Half, p.Name)
				t.Serial++
				i := slices.IndexFunc(t.Members, func(o fakeNode) bool { return o.Name == p.Name })
				t.Members[i] = fakeNode{Name: fmt.Sprintf("new-%d", t.Serial), Group: p.Group, Place: p.Place, Class: class}
				t.Replaced[p.Place]++
			})
		}})
	}
	// One that is away comes first.
	slices.SortStableFunc(all, func(a, b Action) int {
		return strings.Compare(t.Half[b.ID], t.Half[a.ID])
	})
	return all
}
