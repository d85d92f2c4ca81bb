package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// Options are what a plan is made for. The zero value of a field is its default.
type Options struct {
	To             cluster.Topology // default: None
	Via            Executor         // default: Kops
	Endpoints      Endpoints        // default: Balancer
	NoBridge       bool
	CreateBalancer bool // implied where the spec has a load balancer
	MaxAway        int
}

// Stored is what the state store holds apart from the spec.
type Stored struct {
	// Rendered holds, by group, whether the node configuration that kOps last wrote
	// is for DNS type None. A missing group is not known.
	Rendered map[string]bool
	// Controller says whether the dns-controller add-on has any content; empty is
	// unknown.
	Controller cloud.Answer
}

// problem returns the part of the problem that follows from spec and options alone.
func (a Options) problem(c *cluster.Cluster, r cluster.Release) Problem {
	p := Problem{
		Cluster: c.Name, Cloud: c.Cloud, From: c.Topology(r),
		To: a.To, Via: a.Via, Endpoints: a.Endpoints, NoBridge: a.NoBridge, MaxAway: a.MaxAway,
		CreateBalancer: a.CreateBalancer || c.API.LoadBalancer != nil,
	}
	if p.To == "" {
		p.To = cluster.None
	}
	if p.Via == "" {
		p.Via = Kops
	}
	if p.Endpoints == "" {
		p.Endpoints = Balancer
	}
	p.Blocked = p.blockers(c, r)
	return p
}

// blockers returns why no order of steps can work: parts of the spec that the one
// release that can migrate refuses, or a release r that cannot have produced the
// cluster.
func (p *Problem) blockers(c *cluster.Cluster, r cluster.Release) (all []string) {
	gossips := func(t cluster.Topology) bool { return t == cluster.Gossip || t == cluster.Hybrid }
	switch bridge := cluster.Deadline().Bridge; {
	case r < cluster.Deadline().Refused:
	case gossips(p.From):
		return []string{fmt.Sprintf("%s gossips, and kOps %s refuses gossip clusters; plan for the release that configured its nodes (plan -f: --kops-version %s), and go back to %[3]s if a newer one has touched it", c.Name, r, bridge)}
	case gossips(p.To):
		return []string{fmt.Sprintf("kOps %s refuses gossip clusters, hybrid ones too; only under kOps %s can this one become %s", r, bridge, p.To)}
	}
	if p.From == cluster.Public || p.From == cluster.Private {
		return []string{fmt.Sprintf("the cluster finds its API by %s hosted DNS, which is recognised and not managed", p.From)}
	}
	for _, f := range c.Refusals(p.To, cluster.Release136) {
		switch f.Code {
		case cluster.CodeNoLoadBalancer, cluster.CodeLoadBalancerClass, cluster.CodeBecomesHybrid, cluster.CodeWorkersStripped:
			continue // the search decides these more precisely
		}
		all = append(all, f.String())
	}
	return all
}

// FromSpec returns the problem of a cluster that is assumed to be as its spec says:
// for the lab, and for a first estimate.
func FromSpec(c *cluster.Cluster, r cluster.Release, a Options) Problem {
	p := a.problem(c, r)
	lb := c.API.LoadBalancer
	s := State{
		None:    c.UsesNoneDNS(),
		Network: lb != nil && (c.Cloud != cluster.AWS || lb.Class == cluster.LoadBalancerNetwork),
		Classic: lb != nil && c.Cloud == cluster.AWS && lb.Class != cluster.LoadBalancerNetwork,
		Lookup:  p.From == cluster.Gossip, Controller: !c.UsesNoneDNS(), Quiet: c.UsesNoneDNS(), Ports: !c.UsesNoneDNS(),
	}
	s.API, s.Config = s.Network, s.Network && p.From != cluster.Gossip
	class := map[cluster.Topology]Class{cluster.Hybrid: Hybrid, cluster.None: None}[p.From]
	s.Templates, s.Live = Set(class), Set(class)
	s.Members = Members{GossipKnown: uint8(min(c.Size(cluster.RoleControlPlane), maxMembers))}
	if s.None {
		s.Members = Members{QuietKnown: s.Members.GossipKnown}
	}
	for _, g := range c.Groups {
		if g.Role == cluster.RoleNode || g.Role == cluster.RoleControlPlane {
			p.Groups = append(p.Groups, Group{Name: g.Name, Role: g.Role, Live: map[string]int{class.String(): g.Size()}})
		}
	}
	if p.Via == Lab {
		s.Held = true // the lab's nodes keep their addresses
	}
	p.Starts = []Start{{State: s, Assumes: []string{"the cluster is as its spec says"}}}
	return p
}

// observer derives starts from an observation.
type observer struct {
	p      *Problem
	o      *cloud.Observation
	stored Stored
	state  State
	forks  []fork
}

// fork is a fact that was not observed: exactly one of its branches is true.
type fork struct{ branches []branch }

type branch struct {
	assumes string
	apply   func(s *State)
}

// FromObservation returns the problem of a cluster as it was observed. What could
// not be observed becomes several starts.
func FromObservation(c *cluster.Cluster, r cluster.Release, stored Stored, o *cloud.Observation, a Options) (Problem, error) {
	p := a.problem(c, r)
	w := &observer{p: &p, o: o, stored: stored}
	w.state.None = c.UsesNoneDNS()
	for _, g := range o.Groups {
		switch g.Role {
		case cluster.RoleNode:
			w.workers(g)
		case cluster.RoleControlPlane:
			w.members(g)
		}
	}
	w.balancers(c)
	w.permissions()
	w.controller()
	w.state.Ports = !w.state.None || o.Network.Allows(cloud.PartyWorkers, cloud.PartyControlPlane, "tcp", 3999) != cloud.No
	if w.state.None && !w.state.Old && w.state.Members.gossiping() == 0 && w.state.Live == Set(None) {
		w.state.Ports = false // kOps's own rules keep them open for good; the migration is complete
	}
	p.Starts = w.starts()
	if n := len(p.Starts); n > maxStarts {
		return p, fmt.Errorf("plan %s: too much could not be observed (%d possible states, at most %d are explored): %s", p.Cluster, n, maxStarts, w.unseen())
	}
	if w.state.Members.up() == 0 {
		return p, fmt.Errorf("plan %s: no control-plane node was observed; see muster describe cluster %s", p.Cluster, p.Cluster)
	}
	return p, nil
}

// maxStarts bounds the number of states in which a cluster may be.
const maxStarts = 64

func (w *observer) fork(branches ...branch) { w.forks = append(w.forks, fork{branches}) }

// class returns the class of a worker with this boot configuration. rendered says
// whether kOps rendered it for None.
func class(b *cloud.BootConfig, rendered bool) (c Class, known bool) {
	switch bootconfig.Path(b) {
	case cloud.BootGossip:
		return Gossip, true
	case cloud.BootName:
		return Unresolved, true
	case cloud.BootAddresses:
		if rendered {
			return None, true
		}
		return Hybrid, true
	}
	return 0, false
}

// sameTemplate reports whether an instance boots as the next of its group would.
// Other differences, such as the image, do not change how it finds the API.
func sameTemplate(i cloud.Instance, t cloud.Template) bool {
	if i.Generation == cloud.GenerationNew {
		return true
	}
	a, b := i.Boot, t.Boot
	return a != nil && b != nil && a.ConfigHash != "" && a.ConfigHash == b.ConfigHash &&
		bootconfig.Path(a) == bootconfig.Path(b) && slices.Equal(a.Servers, b.Servers) && slices.Equal(a.APIServerIPs, b.APIServerIPs)
}

func (w *observer) workers(g cloud.Group) {
	none, known := w.stored.Rendered[g.Name]
	addressed := Hybrid
	if none {
		addressed = None
	}
	template, readable := class(g.Template.Boot, none)
	switch {
	case !readable:
		set := func(c Class) branch {
			return branch{fmt.Sprintf("the template of %s is %s one", g.Name, c.one()), func(s *State) { s.Templates |= Set(c) }}
		}
		w.fork(set(Gossip), set(Unresolved), set(addressed))
	case template == Hybrid && w.state.None && !known:
		w.fork(branch{"kOps has not rendered " + g.Name + " for None", func(s *State) { s.Templates |= Set(Hybrid) }},
			branch{"kOps has rendered " + g.Name + " for None", func(s *State) { s.Templates |= Set(None); s.Live = s.Live&^Set(Hybrid) | Set(None) }})
	default:
		w.state.Templates |= Set(template)
	}
	w.state.Old = w.state.Old || g.Template.Older > 0
	group := Group{Name: g.Name, Role: g.Role, Live: map[string]int{}}
	for _, i := range g.Living() {
		c, known := class(i.Boot, false) // an older generation was rendered before None
		switch {
		case sameTemplate(i, g.Template) && readable:
			c, known = template, true
		case i.Generation != cloud.GenerationNew && i.Boot == nil:
			known = false
		}
		if !known {
			// It may be of either class; assuming both is the worst case.
			w.state.Live |= Set(Gossip, addressed)
			c = Gossip
		}
		w.state.Live |= Set(c)
		group.Live[c.String()]++
	}
	w.p.Groups = append(w.p.Groups, group)
}

func (w *observer) members(g cloud.Group) {
	quiet, known := w.stored.Rendered[g.Name]
	if !known && w.state.None {
		w.fork(branch{"the control plane's template still gossips", func(s *State) { s.Quiet = false }},
			branch{"the control plane's template no longer gossips", func(s *State) { s.Quiet = true }})
	}
	w.state.Quiet = w.state.Quiet || quiet
	w.state.Old = w.state.Old || g.Template.Older > 0
	group := Group{Name: g.Name, Role: g.Role, Live: map[string]int{}}
	for _, i := range g.Living() {
		c := Gossip
		switch {
		case quiet && sameTemplate(i, g.Template):
			c = None
			w.state.Members.QuietKnown++
		default:
			w.state.Members.GossipKnown++
		}
		if w.state.None && (i.Generation == cloud.GenerationUnknown || !known) {
			w.fork(branch{i.ID + " gossips", func(*State) {}}, branch{i.ID + " does not gossip", func(s *State) {
				if c == Gossip {
					s.Members.GossipKnown--
					s.Members.QuietKnown++
				}
			}})
		}
		group.Live[c.String()]++
	}
	w.p.Groups = append(w.p.Groups, group)
}

func (w *observer) balancers(c *cluster.Cluster) {
	for _, lb := range w.o.LoadBalancers {
		if c.Cloud == cluster.AWS && lb.Class != "network" {
			w.state.Emptied = (w.state.Emptied || !w.state.Classic) && emptied(lb) // of several, all
			w.state.Classic = true
			continue
		}
		w.state.Network = true
		for _, a := range lb.Addresses {
			if a.IsPrivate() || inside(c, a) {
				w.p.BalancerAddresses++
			}
		}
		w.answers(lb, 443, func(s *State, yes bool) { s.API = yes })
		w.answers(lb, 3988, func(s *State, yes bool) { s.Config = yes })
	}
	for _, g := range w.o.Gaps {
		if g.What == "load balancers" && !w.state.Network {
			w.fork(branch{"there is no network load balancer", func(*State) {}},
				branch{"there is a network load balancer that serves the API", func(s *State) { s.Network, s.API = true, true }})
		}
	}
}

// emptied reports whether a load balancer was seen to have no targets at all, not
// even unhealthy ones.
func emptied(lb cloud.LoadBalancer) bool {
	l, ok := lb.Listener(443)
	return ok && l.Targets != nil && len(l.Targets) == 0
}

func inside(c *cluster.Cluster, a netip.Addr) bool {
	return slices.ContainsFunc(c.NetworkCIDRs, func(n netip.Prefix) bool { return n.Contains(a) })
}

// answers records whether a service answers through a load balancer.
func (w *observer) answers(lb cloud.LoadBalancer, port int, set func(s *State, yes bool)) {
	l, ok := lb.Listener(port)
	switch {
	case !ok:
		set(&w.state, false)
	case l.Healthy() > 0:
		set(&w.state, true)
	case l.Targets != nil && !slices.ContainsFunc(l.Targets, func(t cloud.Target) bool {
		return t.Health == cloud.TargetUnknown || t.Health == cloud.TargetInitial
	}):
		set(&w.state, false)
	default:
		w.fork(branch{fmt.Sprintf("port %d answers through %s", port, lb.Name), func(s *State) { set(s, true) }},
			branch{fmt.Sprintf("port %d does not answer through %s", port, lb.Name), func(s *State) { set(s, false) }})
	}
}

func (w *observer) controller() {
	switch w.stored.Controller {
	case cloud.Yes:
		w.state.Controller = true
	case cloud.No:
	default:
		w.fork(branch{"dns-controller is deployed", func(s *State) { s.Controller = true }},
			branch{"dns-controller is not deployed", func(s *State) { s.Controller = false }})
	}
}

// starts returns the product of the forks, at most little more than maxStarts.
func (w *observer) starts() []Start {
	all := []Start{{State: w.state}}
	for _, f := range w.forks {
		var next []Start
		for _, s := range all {
			for _, b := range f.branches {
				t := Start{State: s.State, Assumes: append(slices.Clone(s.Assumes), b.assumes)}
				b.apply(&t.State)
				if !slices.ContainsFunc(next, func(have Start) bool { return have.State == t.State }) {
					next = append(next, t)
				}
			}
		}
		if all = next; len(all) > maxStarts {
			break
		}
	}
	for i := range all {
		all[i].State = all[i].State.settled()
	}
	return all
}

// unseen lists what was not observed.
func (w *observer) unseen() string {
	var names []string
	for _, g := range w.o.Gaps {
		names = append(names, g.String())
	}
	return strings.Join(names, "; ")
}
