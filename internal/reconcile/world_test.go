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

// town is a cluster as small as it can be and still be migrated. It outlives the
// process that works on it, in memory or in a file.
type town struct {
	Flags    plan.State // all but what follows from nodes
	Workers  []person
	Members  []person
	Half     map[string]string // old node -> the new one that stands beside it, or "away"
	Serial   int
	Edits    int            // how often somebody else edited the spec
	Replaced map[string]int // how often each place of the beginning was filled anew
	Lowest   int            // fewest control-plane nodes ever up
	Trace    []string       // every change, in order
}

// person is a node.
type person struct {
	Name, Group, Place string
	Class              plan.Class
}

func newTown() *town {
	t := &town{
		Flags: plan.State{Network: true, API: true, Lookup: true, Controller: true, Ports: true, Templates: plan.Set(plan.Gossip)},
		Half:  map[string]string{}, Replaced: map[string]int{}, Lowest: 3,
	}
	for _, n := range []string{"cp-1", "cp-2", "cp-3"} {
		t.Members = append(t.Members, person{Name: n, Group: "control-plane", Place: n})
	}
	for i, g := range []string{"nodes-a", "nodes-a", "nodes-b", "nodes-b"} {
		n := fmt.Sprintf("%s-%d", g, i)
		t.Workers = append(t.Workers, person{Name: n, Group: g, Place: n})
	}
	return t
}

// problem is what to plan for the town as it is.
func (t *town) problem() plan.Problem {
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

// planned is the plan that is found for a new town.
var planned = sync.OnceValue(func() plan.File {
	t := newTown()
	pl, err := plan.Find(context.Background(), t.problem())
	if err != nil || pl.Refused != nil {
		panic(fmt.Sprintf("no plan: %v %+v", err, pl.Refused))
	}
	return plan.Seal(pl, t.facts())
})

func (t *town) state() plan.State {
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

func (t *town) facts() []plan.Fact {
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

// home is where a town is kept.
type home interface {
	look() (town, error)
	change(f func(*town)) error
}

// memory keeps a town in memory.
type memory struct {
	mu sync.Mutex
	t  *town
}

func (m *memory) look() (town, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return clone(*m.t), nil
}

func (m *memory) change(f func(*town)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m.t)
	return nil
}

func clone(t town) town {
	t.Workers, t.Members, t.Trace = slices.Clone(t.Workers), slices.Clone(t.Members), slices.Clone(t.Trace)
	t.Half, t.Replaced = maps.Clone(t.Half), maps.Clone(t.Replaced)
	return t
}

// disk keeps a town in a file, so that it outlives a process that is killed.
type disk string

func (d disk) look() (town, error) {
	var t town
	data, err := os.ReadFile(string(d))
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	return t, err
}

func (d disk) change(f func(*town)) error {
	t, err := d.look()
	if err != nil {
		return err
	}
	f(&t)
	return d.put(t)
}

func (d disk) put(t town) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := os.WriteFile(string(d)+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(string(d)+".new", string(d))
}

// mayor carries steps out on a town.
type mayor struct {
	home
	fuse *killtest.Fuse
	// trouble may break a step's action: it is asked before each.
	trouble func(step string, a *Action)
	// blind is what every look answers, if it is set.
	blind   error
	aborted []string
	calls   int
}

// change is one change of the world, before and after which a process may die.
func (m *mayor) act(what string, f func(*town)) error {
	return m.fuse.Around(func() error {
		return m.change(func(t *town) {
			f(t)
			t.Trace = append(t.Trace, what)
			t.Lowest = min(t.Lowest, int(t.state().Members.GossipKnown+t.state().Members.QuietKnown))
		})
	})
}

func (m *mayor) Look(ctx context.Context) (World, error) {
	if err := errors.Join(m.fuse.Dead(), ctx.Err(), m.blind); err != nil {
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

// flips are the steps that change one thing, with whether it is done.
var flips = map[string]struct {
	done func(*town) bool
	do   func(*town)
}{
	"expose":               {func(t *town) bool { return t.Flags.Config }, func(t *town) { t.Flags.Config = true }},
	"publish":              {func(t *town) bool { return t.Flags.Bridge }, func(t *town) { t.Flags.Bridge = true }},
	"withdraw":             {func(t *town) bool { return !t.Flags.Bridge }, func(t *town) { t.Flags.Bridge = false }},
	"add-policy":           {func(t *town) bool { return t.Flags.PolicyBridge }, func(t *town) { t.Flags.PolicyBridge = true }},
	"remove-policy":        {func(t *town) bool { return !t.Flags.PolicyBridge }, func(t *town) { t.Flags.PolicyBridge = false }},
	"set-none":             {func(t *town) bool { return t.Flags.None }, func(t *town) { t.Flags.None = true }},
	"unset-none":           {func(t *town) bool { return !t.Flags.None }, func(t *town) { t.Flags.None = false }},
	"update-workers":       {func(t *town) bool { return t.Flags.Templates == plan.Set(plan.None) }, func(t *town) { t.Flags.Templates, t.Flags.Lookup, t.Flags.Old = plan.Set(plan.None), false, true }},
	"update-control-plane": {func(t *town) bool { return t.Flags.Quiet }, func(t *town) { t.Flags.Quiet = true }},
	"restore-workers": {func(t *town) bool {
		return t.Flags.Templates == plan.Set(plan.Gossip) && t.Flags.Controller && t.Flags.Lookup
	}, func(t *town) {
		t.Flags.Templates, t.Flags.Lookup, t.Flags.Controller = plan.Set(plan.Gossip), true, true
	}},
	"restore-control-plane": {func(t *town) bool { return !t.Flags.Quiet && t.Flags.Controller }, func(t *town) { t.Flags.Quiet, t.Flags.Controller, t.Flags.Lookup = false, true, true }},
	"remove-dns-controller": {func(t *town) bool { return !t.Flags.Controller }, func(t *town) { t.Flags.Controller = false }},
	"narrow":                {func(t *town) bool { return !t.Flags.Lookup }, func(t *town) { t.Flags.Lookup = false }},
	"close-ports":           {func(t *town) bool { return !t.Flags.Ports }, func(t *town) { t.Flags.Ports = false }},
	"scrub":                 {func(t *town) bool { return !t.Flags.Old }, func(t *town) { t.Flags.Old = false }},
}

func (m *mayor) Actions(ctx context.Context, s plan.Planned) ([]Action, error) {
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
		flip, ok := flips[s.ID]
		if !ok {
			return nil, fmt.Errorf("no step %q", s.ID)
		}
		if !flip.done(&t) {
			all = []Action{{ID: s.ID, What: s.Title, Do: func(_ context.Context, say func(string)) error {
				say("doing " + s.ID)
				return m.act(s.ID, flip.do)
			}}}
		}
	}
	m.dress(s.ID, all)
	m.calls++
	return all, nil
}

// Verify implements Verifier.
func (m *mayor) Verify(ctx context.Context, s plan.Planned, begun []Begun) ([]Action, error) {
	if err := errors.Join(m.fuse.Dead(), ctx.Err()); err != nil {
		return nil, err
	}
	var all []Action
	for _, b := range begun {
		all = append(all, Action{ID: b.ID, What: b.What, Group: b.Group, Node: b.Node, Replaces: b.Replaces})
	}
	m.dress(s.ID, all)
	return all, nil
}

// dress gives actions what each has.
func (m *mayor) dress(step string, all []Action) {
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
		if m.trouble != nil {
			m.trouble(step, &all[i])
		}
	}
}

// wanted is what a node of a template of now is.
func (t *town) wanted() (c plan.Class) {
	for c = range t.Flags.Templates.Each {
		break
	}
	return c
}

func (m *mayor) replaceWorkers(t *town, canary bool) (all []Action) {
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
				if err := m.act("add for "+p.Name, func(t *town) {
					t.Serial++
					n := person{Name: fmt.Sprintf("new-%d", t.Serial), Group: p.Group, Place: p.Place, Class: t.wanted()}
					t.Half[p.Name] = n.Name
					t.Workers = append(t.Workers, n)
					t.Replaced[p.Place]++
				}); err != nil {
					return err
				}
			}
			say("removing " + p.Name)
			return m.act("remove "+p.Name, func(t *town) {
				delete(t.Half, p.Name)
				t.Workers = slices.DeleteFunc(t.Workers, func(o person) bool { return o.Name == p.Name })
			})
		}})
	}
	return all
}

func (m *mayor) replaceMembers(t *town) (all []Action) {
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
				if err := m.act("take down "+p.Name, func(t *town) { t.Half[p.Name] = "away" }); err != nil {
					return err
				}
			}
			return m.act("replace "+p.Name, func(t *town) {
				delete(t.Half, p.Name)
				t.Serial++
				i := slices.IndexFunc(t.Members, func(o person) bool { return o.Name == p.Name })
				t.Members[i] = person{Name: fmt.Sprintf("new-%d", t.Serial), Group: p.Group, Place: p.Place, Class: class}
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
