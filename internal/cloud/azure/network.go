package azure

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

func (p *Provider) securityGroups(ctx context.Context) ([]*armnetwork.SecurityGroup, error) {
	return every(ctx, "list network security groups", p.guards.NewListPager(p.config.ResourceGroup, nil),
		func(page armnetwork.SecurityGroupsClientListResponse) []*armnetwork.SecurityGroup { return page.Value })
}

// maxPort is the last of all ports.
const maxPort = 65535

// rule is a security rule, ready to be asked. The first that matches decides.
type rule struct {
	name     string
	priority int32
	allow    bool
	protocol string // tcp, udp, icmp or all
	ports    [][2]int
	from, to side
}

// side is one end of a rule.
type side struct {
	anybody  bool
	inside   bool // the cluster's own network
	internet bool
	balancer bool     // Azure's health probes
	groups   []string // application security groups, lower case
	prefixes []netip.Prefix
	other    bool // holds what has no words here
}

// network works the security groups out: they have priorities and denials, which
// our rules do not, so each pair of parties is asked port range by port range.
// Packets pass a load balancer as they are; those that come from inside keep
// their address only at an internal one.
func network(guards []*armnetwork.SecurityGroup, sets []scaleSet, balancers []cloud.LoadBalancer, missing bool) cloud.Network {
	n := cloud.Network{Rules: []cloud.Rule{}, Partial: missing || len(guards) == 0}
	if missing {
		return n
	}
	members := map[string]party{}
	for _, s := range sets {
		if name := survey.Party(s.role); name != "" {
			m := members[name]
			m.add(s)
			members[name] = m
		}
	}
	for _, g := range guards {
		rules, whole := read(g)
		n.Partial = n.Partial || !whole || len(guards) > 1 // which group guards which subnet is not looked at
		for _, to := range []string{cloud.PartyControlPlane, cloud.PartyWorkers} {
			for _, from := range []string{cloud.PartyControlPlane, cloud.PartyWorkers, cloud.PartyWorld, cloud.PartyLoadBalancer} {
				for _, protocol := range []string{"tcp", "udp"} {
					out, sure := allowed(rules, from, members[from], to, members[to], protocol)
					n.Rules = append(n.Rules, out...)
					n.Partial = n.Partial || !sure
				}
			}
		}
	}
	for _, lb := range balancers {
		for _, r := range slices.Clone(n.Rules) {
			if r.To == cloud.PartyControlPlane && (lb.Scheme == "internal" || r.From == cloud.PartyWorld) {
				r.To = cloud.PartyLoadBalancer
				n.Rules = append(n.Rules, r)
			}
		}
		n.Partial = n.Partial || lb.Scheme == "public" // nodes come from the address of a NAT gateway
	}
	return n
}

// party is what identifies the machines of a side.
type party struct {
	groups [][]string // of each scale set
	addrs  []netip.Addr
}

func (p *party) add(s scaleSet) {
	p.groups = append(p.groups, s.guards)
	for _, a := range s.addrs {
		if addr := survey.Addr(a); addr.IsValid() {
			p.addrs = append(p.addrs, addr)
		}
	}
}

// match says whether a side of a rule is a party: yes, no, or partly, which is
// unknown.
func (s side) match(name string, p party) cloud.Answer {
	switch {
	case s.anybody:
		return cloud.Yes
	case name == cloud.PartyWorld:
		return answer(s.internet, false)
	case name == cloud.PartyLoadBalancer:
		return answer(s.balancer, false)
	case s.inside:
		return cloud.Yes
	case s.other:
		return cloud.Unknown
	}
	hits, all := 0, len(p.groups)
	for _, groups := range p.groups {
		if slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(s.groups, g) }) {
			hits++
		}
	}
	if hits == 0 && len(s.prefixes) > 0 {
		all = len(p.addrs)
		for _, a := range p.addrs {
			if slices.ContainsFunc(s.prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
				hits++
			}
		}
	}
	return answer(hits > 0 && hits == all, hits > 0)
}

func answer(yes, perhaps bool) cloud.Answer {
	switch {
	case yes:
		return cloud.Yes
	case perhaps:
		return cloud.Unknown
	}
	return cloud.No
}

// allowed returns what from may reach of to; sure is false if a rule that may or
// may not match comes first anywhere.
func allowed(rules []rule, from string, source party, to string, target party, protocol string) (out []cloud.Rule, sure bool) {
	edges := []int{0, maxPort + 1}
	for _, r := range rules {
		for _, p := range r.ports {
			edges = append(edges, p[0], p[1]+1)
		}
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	sure = true
	for i := range len(edges) - 1 {
		low, high := edges[i], edges[i+1]-1
		decided, known := decide(rules, from, source, to, target, protocol, low)
		sure = sure && known
		if decided == nil || !decided.allow {
			continue
		}
		if k := len(out) - 1; k >= 0 && out[k].High == low-1 && out[k].Name == decided.name {
			out[k].High = high
			continue
		}
		out = append(out, cloud.Rule{From: from, To: to, Protocol: protocol, Low: low, High: high, Name: decided.name})
	}
	return out, sure
}

// decide finds the first rule that matches. known is false if one before it may
// match.
func decide(rules []rule, from string, source party, to string, target party, protocol string, port int) (r *rule, known bool) {
	known = true
	for i := range rules {
		r := &rules[i]
		if r.protocol != "all" && r.protocol != protocol || !slices.ContainsFunc(r.ports, func(p [2]int) bool { return p[0] <= port && port <= p[1] }) {
			continue
		}
		a, b := r.from.match(from, source), r.to.match(to, target)
		switch {
		case a == cloud.Yes && b == cloud.Yes:
			return r, known
		case a != cloud.No && b != cloud.No:
			known = false
		}
	}
	return nil, known
}

// read sorts a group's inbound rules by priority; whole is false if one could
// not be read.
func read(g *armnetwork.SecurityGroup) (rules []rule, whole bool) {
	whole = true
	if g.Properties == nil {
		return nil, false
	}
	for _, r := range slices.Concat(g.Properties.SecurityRules, g.Properties.DefaultSecurityRules) {
		if r == nil || r.Properties == nil {
			whole = false
			continue
		}
		p := r.Properties
		if val(p.Direction) != armnetwork.SecurityRuleDirectionInbound {
			continue
		}
		out := rule{name: val(r.Name), priority: val(p.Priority), allow: val(p.Access) == armnetwork.SecurityRuleAccessAllow}
		out.protocol = strings.ToLower(string(val(p.Protocol)))
		if out.protocol == "*" {
			out.protocol = "all"
		}
		for _, text := range texts(p.DestinationPortRange, p.DestinationPortRanges) {
			if text == "*" {
				out.ports = append(out.ports, [2]int{0, maxPort})
				continue
			}
			low, high, ok := survey.Ports(text)
			whole = whole && ok
			if ok {
				out.ports = append(out.ports, [2]int{low, high})
			}
		}
		out.from = readSide(texts(p.SourceAddressPrefix, p.SourceAddressPrefixes), p.SourceApplicationSecurityGroups)
		out.to = readSide(texts(p.DestinationAddressPrefix, p.DestinationAddressPrefixes), p.DestinationApplicationSecurityGroups)
		rules = append(rules, out)
	}
	slices.SortStableFunc(rules, func(a, b rule) int { return cmp.Compare(a.priority, b.priority) })
	return rules, whole
}

func texts(one *string, more []*string) (out []string) {
	for _, p := range append([]*string{one}, more...) {
		if val(p) != "" {
			out = append(out, *p)
		}
	}
	return out
}

func readSide(prefixes []string, groups []*armnetwork.ApplicationSecurityGroup) (s side) {
	for _, g := range groups {
		if g != nil {
			s.groups = append(s.groups, strings.ToLower(val(g.ID)))
		}
	}
	for _, text := range prefixes {
		switch strings.ToLower(text) {
		case "*", "any", "0.0.0.0/0", "::/0":
			s.anybody = true
		case "virtualnetwork":
			s.inside = true
		case "internet":
			s.internet = true
		case "azureloadbalancer":
			s.balancer = true
		default:
			if p, ok := survey.Prefix(text); ok {
				s.prefixes = append(s.prefixes, p)
			} else {
				s.other = true
			}
		}
	}
	return s
}
