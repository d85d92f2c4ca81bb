// Package describe puts together what is known of a cluster, from its spec, the
// kOps version in its state store and what its cloud shows, and draws it on one
// screen.
//
// It looks at nothing itself and decides nothing that it was not told: what was
// not seen is listed as unknown, beside what was. It plans no change and finds no
// fault with a cluster; that is for packages plan and audit.
//
// Invariants: the package is pure; the screen and the JSON are the same data; no
// secret is in either.
package describe

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// Facts are what is known of a cluster.
type Facts struct {
	Spec *cluster.Cluster
	// KopsVersion is what the state store says, or empty.
	KopsVersion string
	// Seen is what the cloud shows; nil if it could not be asked, and Blind says
	// why.
	Seen  *cloud.Observation
	Blind string
	// NodeConfigs are the configurations in the state store that the nodes of
	// each group read when they boot, by group. One that is absent was not read.
	NodeConfigs map[string]NodeConfig
	// Gaps are what could not be read besides.
	Gaps []cloud.Gap
}

// NodeConfig is what matters of a group's node configuration.
type NodeConfig struct {
	Hash   string // base64 SHA-256, as boot configurations pin it
	Gossip bool   // usesLegacyGossip
}

// Description is a cluster as it is shown.
type Description struct {
	Name          string         `json:"name"`
	Cloud         cluster.Cloud  `json:"cloud"`
	Topology      string         `json:"topology"` // or unknown
	Decided       string         `json:"decidedBy"`
	KopsVersion   string         `json:"kopsVersion"` // or unknown
	Deadline      string         `json:"deadline,omitempty"`
	Groups        []Group        `json:"groups"`
	LoadBalancers []LoadBalancer `json:"loadBalancers"`
	Permissions   []Permission   `json:"permissions"`
	Attention     []string       `json:"attention"`
	Unknown       []cloud.Gap    `json:"unknown"`
	Calls         []cloud.Call   `json:"calls,omitempty"`
}

// Group is an instance group as it is shown.
type Group struct {
	Name        string         `json:"name"`
	Role        cluster.Role   `json:"role"`
	BootPath    cloud.BootPath `json:"bootPath"`
	Leads       string         `json:"leads"`     // where the boot path leads, in words
	Addresses   []string       `json:"addresses"` // of the servers asked at boot
	Servers     []string       `json:"servers"`   // their URLs
	Generations Generations    `json:"generations"`
	OldPaths    []string       `json:"oldBootPaths,omitempty"` // boot paths of old instances where they differ
	Instances   int            `json:"instances"`
	Desired     int            `json:"desired"`
	Detached    int            `json:"detached,omitempty"`
	Template    string         `json:"templateVersion,omitempty"`
	KopsVersion string         `json:"kopsVersion,omitempty"` // of the template
	Credentials []string       `json:"credentials,omitempty"` // names of variables with secrets

	trouble string // what is wrong with where the boot path leads
}

// Generations counts instances.
type Generations struct {
	New     int `json:"new"`
	Old     int `json:"old"`
	Unknown int `json:"unknown"`
}

// LoadBalancer is a load balancer as it is shown.
type LoadBalancer struct {
	Name      string     `json:"name"`
	Class     string     `json:"class"`
	Scheme    string     `json:"scheme"`
	Addresses []string   `json:"addresses"`
	Listeners []Listener `json:"listeners"`
}

// Listener is a listener as it is shown. Targets is -1 if their health is not known.
type Listener struct {
	Port    int    `json:"port"`
	What    string `json:"what"`
	Check   string `json:"check"`
	Healthy int    `json:"healthy"`
	Targets int    `json:"targets"`
}

// ownServer is where kOps points the names of the API on nodes that serve it.
const ownServer = "127.0.0.1"

// unknown stands where something could not be told.
const unknown = "unknown"

// Describe puts a description together. Facts.Spec is required.
func Describe(f Facts) *Description {
	d := &Description{
		Name:          f.Spec.Name,
		Cloud:         f.Spec.Cloud,
		KopsVersion:   cmp.Or(f.KopsVersion, unknown),
		Groups:        []Group{},
		LoadBalancers: []LoadBalancer{},
		Permissions:   []Permission{},
		Attention:     []string{},
		Unknown:       []cloud.Gap{},
	}
	decision := decide(f)
	d.Topology, d.Decided = decision.topology, decision.why
	d.Deadline = deadline(f.Spec)
	d.Unknown = append(d.Unknown, f.Gaps...)
	if f.KopsVersion == "" {
		d.Unknown = append(d.Unknown, cloud.Gap{What: "kOps version", Why: "the state store has no kops-version.txt; no kOps has updated the cluster yet"})
	}
	if f.Seen == nil {
		d.Unknown = append(d.Unknown, cloud.Gap{What: "cloud", Why: cmp.Or(f.Blind, "it was not asked")})
		for _, g := range f.Spec.Groups {
			d.Groups = append(d.Groups, unseen(g))
		}
		return d
	}
	for _, g := range f.Seen.Groups {
		d.Groups = append(d.Groups, group(g, f, decision))
	}
	d.missing(f)
	for _, lb := range f.Seen.LoadBalancers {
		d.LoadBalancers = append(d.LoadBalancers, balancer(lb))
	}
	for _, r := range f.Seen.Roles {
		d.Permissions = append(d.Permissions, permission(r, f, decision))
	}
	d.Unknown = append(d.Unknown, f.Seen.Gaps...)
	d.attend(f)
	return d
}

// unseen is a group of the spec that the cloud could not be asked about.
func unseen(g cluster.Group) Group {
	return Group{Name: g.Name, Role: g.Role, BootPath: cloud.BootUnknown, Leads: "not seen", Addresses: []string{}, Servers: []string{}, Desired: g.MinSize}
}

// missing adds the groups of the spec that the cloud does not have.
func (d *Description) missing(f Facts) {
	for _, g := range f.Spec.Groups {
		if !slices.ContainsFunc(d.Groups, func(have Group) bool { return have.Name == g.Name }) {
			d.Groups = append(d.Groups, unseen(g))
			d.Unknown = append(d.Unknown, cloud.Gap{What: "group", Subject: g.Name, Why: "the spec has it, the cloud does not show it"})
		}
	}
	slices.SortStableFunc(d.Groups, func(a, b Group) int {
		return cmp.Or(order(a.Role)-order(b.Role), strings.Compare(a.Name, b.Name))
	})
}

// order puts the control plane first.
func order(r cluster.Role) int {
	return slices.Index([]cluster.Role{cluster.RoleControlPlane, cluster.RoleAPIServer, cluster.RoleNode, cluster.RoleBastion}, r)
}

func group(g cloud.Group, f Facts, decision decision) Group {
	out := Group{
		Name: g.Name, Role: g.Role, Instances: len(g.Instances), Desired: g.Desired, Template: g.Template.Version,
		Addresses: []string{}, Servers: []string{},
	}
	r := routeOf(g.Role, g.Template.Boot, f, decision)
	out.BootPath, out.Leads, out.trouble = r.path, r.leads, r.trouble
	if b := g.Template.Boot; b != nil {
		out.KopsVersion, out.Credentials = b.KopsVersion, b.Credentials
		out.Servers = append(out.Servers, b.Servers...)
		out.Addresses = append(out.Addresses, addresses(b)...)
		if out.BootPath == cloud.BootAddresses && len(b.Servers) == 0 {
			out.Addresses = []string{ownServer}
		}
	}
	old := map[string]bool{}
	for _, i := range g.Instances {
		switch i.Generation {
		case cloud.GenerationNew:
			out.Generations.New++
		case cloud.GenerationOld:
			out.Generations.Old++
			old[string(routeOf(g.Role, i.Boot, f, decision).path)] = true
		default:
			out.Generations.Unknown++
		}
		if i.Detached {
			out.Detached++
		}
	}
	for _, p := range []cloud.BootPath{cloud.BootGossip, cloud.BootAddresses, cloud.BootName, cloud.BootUnknown} {
		if old[string(p)] {
			out.OldPaths = append(out.OldPaths, string(p))
		}
	}
	return out
}

// route is how nodes find the control plane, where that leads, and what is wrong
// with it, if anything.
type route struct {
	path    cloud.BootPath
	leads   string
	trouble string
}

// routeOf says where a boot configuration leads. A control-plane node reads the
// state store under every topology; whether it then gossips is in the node
// configuration that its boot configuration pins, or else follows from the
// topology.
func routeOf(role cluster.Role, b *cloud.BootConfig, f Facts, decision decision) route {
	if role == cluster.RoleBastion {
		return route{path: cloud.BootUnknown, leads: "a bastion boots without kOps"}
	}
	r := route{path: bootconfig.Path(b)}
	switch r.path {
	case cloud.BootGossip:
		if (role == cluster.RoleControlPlane || role == cluster.RoleAPIServer) && !gossips(b, f, decision) {
			return route{path: cloud.BootAddresses, leads: "state store, then its own API server (" + ownServer + ")"}
		}
		r.leads = "state store, then seeds by cloud tag, then gossip"
		if t := decision.topology; role == cluster.RoleNode && t != string(cluster.Gossip) && t != unknown {
			r.trouble = "its template still gossips although the topology is " + t + ": a new node boots as an old one"
		}
	case cloud.BootAddresses:
		r.leads = strings.Join(addresses(b), " ")
		switch owner, stale := ownerOf(addresses(b), f); {
		case len(stale) == 0:
			r.leads += " (" + owner + ")"
		case f.Seen == nil, slices.ContainsFunc([]string{"addresses", "load balancers", "instances", "instance groups"}, func(what string) bool { return unseenPart(f.Seen.Gaps, what) }):
			r.leads += " (whose they are was not seen)"
		case owner != "":
			r.leads += " (" + owner + "; " + strings.Join(stale, " ") + " of nothing that was seen)"
			r.trouble = "its template leads also to " + strings.Join(stale, ", ") + ", of nothing that was seen"
		default:
			r.leads += " (of nothing that was seen)"
			r.trouble = "its template leads to addresses of nothing that was seen"
		}
	case cloud.BootName:
		name, t := hosts(b)[0], decision.topology
		switch {
		case !cluster.OwnsName(f.Spec.Name, name):
			r.leads = name + ", which was not looked up"
		case t == string(cluster.Public), t == string(cluster.Private):
			r.leads = name + ", from hosted DNS"
		default:
			r.leads = name + ", a name that nothing resolves; no address"
			r.trouble = "its template holds no address, only a name that nothing resolves: no new node can join"
		}
	default:
		r.leads = "the boot configuration names neither a server nor the state store"
		if b == nil {
			r.leads = "the template could not be read"
		}
	}
	return r
}

// gossips reports whether a control-plane node with this boot configuration
// joins the overlay.
func gossips(b *cloud.BootConfig, f Facts, decision decision) bool {
	if c, ok := f.NodeConfigs[b.Group]; ok && c.Hash == b.ConfigHash {
		return c.Gossip
	}
	return cluster.IsGossipName(f.Spec.Name) && decision.topology != string(cluster.None)
}

// hosts returns the hosts of the servers, without ports.
func hosts(b *cloud.BootConfig) (all []string) {
	for _, s := range b.Servers {
		if u, err := url.Parse(s); err == nil && u.Hostname() != "" {
			all = append(all, u.Hostname())
		}
	}
	return all
}

// addresses returns the hosts that are addresses.
func addresses(b *cloud.BootConfig) []string {
	return slices.DeleteFunc(hosts(b), func(h string) bool { _, err := netip.ParseAddr(h); return err != nil })
}

// ownerOf returns what has addresses, load balancers, control-plane nodes or both, and
// the addresses that nothing observed has.
func ownerOf(addresses []string, f Facts) (owner string, stale []string) {
	if f.Seen == nil {
		return "", addresses
	}
	var balancers, nodes []netip.Addr
	for _, lb := range f.Seen.LoadBalancers {
		balancers = append(balancers, lb.Addresses...)
	}
	for _, g := range f.Seen.Groups {
		if g.Role == cluster.RoleControlPlane {
			for _, i := range g.Instances {
				nodes = append(nodes, i.Addr)
			}
		}
	}
	var owners []string
	for _, text := range addresses {
		a, _ := netip.ParseAddr(text)
		switch {
		case slices.Contains(balancers, a):
			owners = append(owners, "load balancer")
		case slices.Contains(nodes, a):
			owners = append(owners, "control-plane nodes")
		default:
			stale = append(stale, text)
		}
	}
	slices.Sort(owners)
	slices.Reverse(owners) // the load balancer comes first
	return strings.Join(slices.Compact(owners), ", "), stale
}

// purpose names the ports that kOps's load balancers listen at.
func purpose(port int) string {
	switch port {
	case 443, 8443, 6443:
		return "API"
	case 3988:
		return "kops-controller"
	}
	return ""
}

func balancer(lb cloud.LoadBalancer) LoadBalancer {
	out := LoadBalancer{Name: lb.Name, Class: lb.Class, Scheme: lb.Scheme, Addresses: []string{}, Listeners: []Listener{}}
	for _, a := range lb.Addresses {
		out.Addresses = append(out.Addresses, a.String())
	}
	for _, l := range lb.Listeners {
		one := Listener{Port: l.Port, What: purpose(l.Port), Check: l.Check, Healthy: l.Healthy(), Targets: len(l.Targets)}
		if l.Targets == nil || one.Healthy == 0 && slices.ContainsFunc(l.Targets, func(t cloud.Target) bool { return t.Health == cloud.TargetUnknown || t.Health == "" }) {
			one.Targets = -1
		}
		out.Listeners = append(out.Listeners, one)
	}
	return out
}

// attend lists what an operator should see first.
func (d *Description) attend(f Facts) {
	add := func(format string, args ...any) { d.Attention = append(d.Attention, fmt.Sprintf(format, args...)) }
	for _, g := range d.Groups {
		if g.trouble != "" {
			add("%s: %s", g.Name, g.trouble)
		}
	}
	for _, lb := range d.LoadBalancers {
		for _, l := range lb.Listeners {
			if l.Targets >= 0 && l.Healthy == 0 {
				add("load balancer %s: no healthy target behind port %d", lb.Name, l.Port)
			}
		}
	}
	if f.Spec.API.LoadBalancer == nil && len(d.LoadBalancers) == 0 && !slices.ContainsFunc(d.Unknown, func(g cloud.Gap) bool { return g.What == "load balancers" }) {
		add("no load balancer: workers cannot leave gossip before there is one, or a list of addresses")
	}
}
