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
	return allPages(ctx, "list network security groups", p.nsgs.NewListPager(p.config.ResourceGroup, nil),
		func(page armnetwork.SecurityGroupsClientListResponse) []*armnetwork.SecurityGroup { return page.Value })
}

// maxPort is the highest port.
const maxPort = 65535

// rule is a security rule. The first match by priority decides.
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
	anyone         bool
	virtualNetwork bool // the tag VirtualNetwork
	internet       bool
	healthProbes   bool     // the tag AzureLoadBalancer
	groups         []string // application security groups, lower case
	prefixes       []netip.Prefix
	unsupported    bool // has something that is not represented
}

// network evaluates the security groups. They have priorities and denials, which cloud.Rule does not, so each pair of
// parties is evaluated port range by port range. Load balancers pass packets through unchanged; packets from the cluster's
// network keep their source address at an internal one only.
func network(nsgs []*armnetwork.SecurityGroup, sets []scaleSet, balancers []cloud.LoadBalancer, missing bool) cloud.Network {
	n := cloud.Network{Rules: []cloud.Rule{}, Partial: missing || len(nsgs) == 0}
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
	for _, g := range nsgs {
		rules, complete := readRules(g)
		n.Partial = n.Partial || !complete || len(nsgs) > 1 // the association of groups and subnets is not read
		for _, to := range []string{cloud.PartyControlPlane, cloud.PartyWorkers} {
			for _, from := range []string{cloud.PartyControlPlane, cloud.PartyWorkers, cloud.PartyWorld, cloud.PartyLoadBalancer} {
				for _, protocol := range []string{"tcp", "udp"} {
					out, certain := allowed(rules, from, members[from], to, members[to], protocol)
					n.Rules = append(n.Rules, out...)
					n.Partial = n.Partial || !certain
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
		n.Partial = n.Partial || lb.Scheme == "public" // nodes arrive with the address of a NAT gateway
	}
	return n
}

// party identifies the machines of a party.
type party struct {
	groups [][]string // of each scale set
	addrs  []netip.Addr
}

func (p *party) add(s scaleSet) {
	p.groups = append(p.groups, s.asgs)
	for _, a := range s.addrs {
		if addr := survey.Addr(a); addr.IsValid() {
			p.addrs = append(p.addrs, addr)
		}
	}
}

// match reports whether a side of a rule contains a party. If it contains part of it, the answer is unknown.
func (s side) match(name string, p party) cloud.Answer {
	switch {
	case s.anyone:
		return cloud.Yes
	case name == cloud.PartyWorld:
		return answer(s.internet, false)
	case name == cloud.PartyLoadBalancer:
		return answer(s.healthProbes, false)
	case s.virtualNetwork:
		return cloud.Yes
	case s.unsupported:
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

// allowed returns the ports of to that from may reach. certain is false if, for any port, a rule that may match precedes
// the one that does.
func allowed(rules []rule, from string, source party, to string, target party, protocol string) (out []cloud.Rule, certain bool) {
	edges := []int{0, maxPort + 1}
	for _, r := range rules {
		for _, p := range r.ports {
			edges = append(edges, p[0], p[1]+1)
		}
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	certain = true
	for i := range len(edges) - 1 {
		low, high := edges[i], edges[i+1]-1
		matched, known := firstMatch(rules, from, source, to, target, protocol, low)
		certain = certain && known
		if matched == nil || !matched.allow {
			continue
		}
		if k := len(out) - 1; k >= 0 && out[k].High == low-1 && out[k].Name == matched.name {
			out[k].High = high
			continue
		}
		out = append(out, cloud.Rule{From: from, To: to, Protocol: protocol, Low: low, High: high, Name: matched.name})
	}
	return out, certain
}

// firstMatch returns the first rule that matches, or nil. known is false if an earlier one may match.
func firstMatch(rules []rule, from string, source party, to string, target party, protocol string, port int) (r *rule, known bool) {
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

// readRules returns a group's inbound rules by priority. complete is false if one could not be read.
func readRules(g *armnetwork.SecurityGroup) (rules []rule, complete bool) {
	complete = true
	if g.Properties == nil {
		return nil, false
	}
	for _, r := range slices.Concat(g.Properties.SecurityRules, g.Properties.DefaultSecurityRules) {
		if r == nil || r.Properties == nil {
			complete = false
			continue
		}
		p := r.Properties
		if deref(p.Direction) != armnetwork.SecurityRuleDirectionInbound {
			continue
		}
		out := rule{name: deref(r.Name), priority: deref(p.Priority), allow: deref(p.Access) == armnetwork.SecurityRuleAccessAllow}
		out.protocol = strings.ToLower(string(deref(p.Protocol)))
		if out.protocol == "*" {
			out.protocol = "all"
		}
		for _, text := range nonEmpty(p.DestinationPortRange, p.DestinationPortRanges) {
			if text == "*" {
				out.ports = append(out.ports, [2]int{0, maxPort})
				continue
			}
			low, high, ok := survey.Ports(text)
			complete = complete && ok
			if ok {
				out.ports = append(out.ports, [2]int{low, high})
			}
		}
		out.from = readSide(nonEmpty(p.SourceAddressPrefix, p.SourceAddressPrefixes), p.SourceApplicationSecurityGroups)
		out.to = readSide(nonEmpty(p.DestinationAddressPrefix, p.DestinationAddressPrefixes), p.DestinationApplicationSecurityGroups)
		rules = append(rules, out)
	}
	slices.SortStableFunc(rules, func(a, b rule) int { return cmp.Compare(a.priority, b.priority) })
	return rules, complete
}

func nonEmpty(one *string, more []*string) (out []string) {
	for _, p := range append([]*string{one}, more...) {
		if deref(p) != "" {
			out = append(out, *p)
		}
	}
	return out
}

func readSide(prefixes []string, groups []*armnetwork.ApplicationSecurityGroup) (s side) {
	for _, g := range groups {
		if g != nil {
			s.groups = append(s.groups, strings.ToLower(deref(g.ID)))
		}
	}
	for _, text := range prefixes {
		switch strings.ToLower(text) {
		case "*", "any", "0.0.0.0/0", "::/0":
			s.anyone = true
		case "virtualnetwork":
			s.virtualNetwork = true
		case "internet":
			s.internet = true
		case "azureloadbalancer":
			s.healthProbes = true
		default:
			if p, ok := survey.Prefix(text); ok {
				s.prefixes = append(s.prefixes, p)
			} else {
				s.unsupported = true
			}
		}
	}
	return s
}
