// Package describe summarizes a cluster from its spec, its state store and its cloud,
// as JSON and as one screen of text.
//
// It reads nothing itself, and lists as unknown what was not observed. It does not plan
// changes or evaluate the cluster; packages plan and audit do.
//
// Invariants: the package is pure; the screen and the JSON show the same data; neither
// contains a secret.
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

// Facts are the input of [Describe]. Only Spec is required.
type Facts struct {
	Spec *cluster.Cluster
	// KopsVersion is kops-version.txt of the state store; empty if there is none.
	KopsVersion string
	// Seen is the cloud's state; nil if it could not be observed, and Blind has the
	// reason.
	Seen  *cloud.Observation
	Blind string
	// NodeConfigs are the node configurations in the state store, by group. A missing
	// one was not read.
	NodeConfigs map[string]NodeConfig
	// Gaps is what else could not be read.
	Gaps []cloud.Gap
}

// NodeConfig holds what matters of a group's nodeupconfig.yaml.
type NodeConfig struct {
	Gossip bool // usesLegacyGossip
}

// Description is the summary of a cluster.
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

// Group is the summary of an instance group.
type Group struct {
	Name        string         `json:"name"`
	Role        cluster.Role   `json:"role"`
	BootPath    cloud.BootPath `json:"bootPath"`
	Leads       string         `json:"leads"`     // where the boot path leads, for people
	Addresses   []string       `json:"addresses"` // of the servers contacted at boot
	Servers     []string       `json:"servers"`   // their URLs
	Generations Generations    `json:"generations"`
	OldPaths    []string       `json:"oldBootPaths,omitempty"` // boot paths of old instances where they differ
	Instances   int            `json:"instances"`
	Desired     int            `json:"desired"`
	Detached    int            `json:"detached,omitempty"`
	Template    string         `json:"templateVersion,omitempty"`
	KopsVersion string         `json:"kopsVersion,omitempty"` // of the template
	Credentials []string       `json:"credentials,omitempty"` // names of variables with secrets

	problem string // why a new node may not join by its boot path; empty if nothing is known
}

// Generations counts instances by [cloud.Generation].
type Generations struct {
	New     int `json:"new"`
	Old     int `json:"old"`
	Unknown int `json:"unknown"`
}

// LoadBalancer is the summary of a load balancer.
type LoadBalancer struct {
	Name      string     `json:"name"`
	Class     string     `json:"class"`
	Scheme    string     `json:"scheme"`
	Addresses []string   `json:"addresses"`
	Listeners []Listener `json:"listeners"`
}

// Listener is the summary of a listener. Targets is -1 if their health is not known.
type Listener struct {
	Port    int    `json:"port"`
	What    string `json:"what"`
	Check   string `json:"check"`
	Healthy int    `json:"healthy"`
	Targets int    `json:"targets"`
}

// ownServer is the address of the API's names in /etc/hosts of nodes with an API server.
const ownServer = "127.0.0.1"

// unknown is the value of text fields that could not be determined.
const unknown = "unknown"

// Describe summarizes a cluster.
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
			d.Groups = append(d.Groups, unobserved(g))
		}
		return d
	}
	for _, g := range f.Seen.Groups {
		d.Groups = append(d.Groups, group(g, f, decision))
	}
	d.addMissing(f)
	for _, lb := range f.Seen.LoadBalancers {
		d.LoadBalancers = append(d.LoadBalancers, balancer(lb))
	}
	for _, r := range f.Seen.Roles {
		d.Permissions = append(d.Permissions, permission(r, f, decision))
	}
	d.Unknown = append(d.Unknown, f.Seen.Gaps...)
	d.setAttention(f)
	return d
}

// unobserved returns the summary of a group that is known only from the spec.
func unobserved(g cluster.Group) Group {
	return Group{Name: g.Name, Role: g.Role, BootPath: cloud.BootUnknown, Leads: "not seen", Addresses: []string{}, Servers: []string{}, Desired: g.MinSize}
}

// addMissing adds the groups of the spec that the cloud does not have.
func (d *Description) addMissing(f Facts) {
	for _, g := range f.Spec.Groups {
		if !slices.ContainsFunc(d.Groups, func(have Group) bool { return have.Name == g.Name }) {
			d.Groups = append(d.Groups, unobserved(g))
			d.Unknown = append(d.Unknown, cloud.Gap{What: "group", Subject: g.Name, Why: "the spec has it, the cloud does not show it"})
		}
	}
	slices.SortStableFunc(d.Groups, func(a, b Group) int {
		return cmp.Or(roleOrder(a.Role)-roleOrder(b.Role), strings.Compare(a.Name, b.Name))
	})
}

// roleOrder sorts roles, the control plane first.
func roleOrder(r cluster.Role) int {
	return slices.Index([]cluster.Role{cluster.RoleControlPlane, cluster.RoleAPIServer, cluster.RoleNode, cluster.RoleBastion}, r)
}

// group returns the summary of an observed group.
func group(g cloud.Group, f Facts, decision decision) Group {
	out := Group{
		Name: g.Name, Role: g.Role, Instances: len(g.Instances), Desired: g.Desired, Template: g.Template.Version,
		Addresses: []string{}, Servers: []string{},
	}
	r := routeOf(g.Role, g.Template.Boot, f, decision)
	out.BootPath, out.Leads, out.problem = r.path, r.leads, r.problem
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

// route is how a node finds the control plane, where that leads, and why that may not
// work; problem is empty if nothing is known against it.
type route struct {
	path    cloud.BootPath
	leads   string
	problem string
}

// routeOf returns the route of a boot configuration. A control-plane node reads the
// state store under every topology. Whether it then gossips is in the node
// configuration that its boot configuration pins, or follows from the topology.
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
			r.problem = "its template still gossips although the topology is " + t + ": a new node boots as an old one"
		}
	case cloud.BootAddresses:
		r.leads = strings.Join(addresses(b), " ")
		switch owner, stale := ownerOf(addresses(b), f); {
		case len(stale) == 0:
			r.leads += " (" + owner + ")"
		case f.Seen == nil, slices.ContainsFunc([]string{"addresses", "load balancers", "instances", "instance groups"}, func(what string) bool { return hasGap(f.Seen.Gaps, what) }):
			r.leads += " (whose they are was not seen)"
		case owner != "":
			r.leads += " (" + owner + "; " + strings.Join(stale, " ") + " of nothing that was seen)"
			r.problem = "its template leads also to " + strings.Join(stale, ", ") + ", of nothing that was seen"
		default:
			r.leads += " (of nothing that was seen)"
			r.problem = "its template leads to addresses of nothing that was seen"
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
			r.problem = "its template holds no address, only a name that nothing resolves: no new node can join"
		}
	default:
		r.leads = "the boot configuration names neither a server nor the state store"
		if b == nil {
			r.leads = "the template could not be read"
		}
	}
	return r
}

// gossips reports whether a control-plane node with this boot configuration joins the
// overlay. One of the current template does what the stored node configuration says; the
// hash that it pins cannot be compared with the store's, because nodes that read the
// state store hash more than the file.
func gossips(b *cloud.BootConfig, f Facts, decision decision) bool {
	current := f.Seen != nil && slices.ContainsFunc(f.Seen.Groups, func(g cloud.Group) bool {
		return g.Name == b.Group && g.Template.Boot != nil && g.Template.Boot.ConfigHash == b.ConfigHash
	})
	if c, ok := f.NodeConfigs[b.Group]; ok && current {
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

// service returns the service at a port of the API's load balancer.
func service(port int) string {
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
		one := Listener{Port: l.Port, What: service(l.Port), Check: l.Check, Healthy: l.Healthy(), Targets: len(l.Targets)}
		if l.Targets == nil || one.Healthy == 0 && slices.ContainsFunc(l.Targets, func(t cloud.Target) bool { return t.Health == cloud.TargetUnknown || t.Health == "" }) {
			one.Targets = -1
		}
		out.Listeners = append(out.Listeners, one)
	}
	return out
}

// setAttention lists what an operator should see first.
func (d *Description) setAttention(f Facts) {
	add := func(format string, args ...any) { d.Attention = append(d.Attention, fmt.Sprintf(format, args...)) }
	for _, g := range d.Groups {
		if g.problem != "" {
			add("%s: %s", g.Name, g.problem)
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
