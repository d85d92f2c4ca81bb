package aws

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// party is one side of a rule: what guards each of its members, and where they
// are.
type party struct {
	name    string
	members [][]string // security groups of each member
	addrs   []netip.Addr
	// free means that security groups let every member send anything anywhere.
	free bool
	// unguarded means that some member has no security group, as a network load
	// balancer may: it lets everybody in, and passes on who that was.
	unguarded bool
}

// carry reports whether all members carry a security group, and whether some do.
func (p *party) carry(guard string) (all, some bool) {
	all = len(p.members) > 0
	for _, guards := range p.members {
		if slices.Contains(guards, guard) {
			some = true
		} else {
			all = false
		}
	}
	return all, some
}

// network returns what security groups allow among the parties. It does not look
// at network ACLs and routes, which kOps leaves open.
func (l *look) network(ctx context.Context, groups []*group, balancers []cloud.LoadBalancer) cloud.Network {
	parties := parties(groups, balancers)
	var ids []string
	for _, p := range parties {
		for _, guards := range p.members {
			ids = append(ids, guards...)
		}
	}
	if ids = unique(ids); len(ids) == 0 {
		l.gap("network rules", "", errors.New("no security group of an instance or load balancer could be read"))
		return cloud.Network{Partial: true}
	}
	guards, err := l.securityGroups(ctx, ids)
	if err != nil {
		l.gap("network rules", "", err)
		return cloud.Network{Partial: true}
	}
	return rulesAmong(parties, guards)
}

// parties sorts what was observed into the three parties of the cluster.
func parties(groups []*group, balancers []cloud.LoadBalancer) []*party {
	workers := &party{name: cloud.PartyWorkers}
	control := &party{name: cloud.PartyControlPlane}
	balancer := &party{name: cloud.PartyLoadBalancer}
	for _, g := range groups {
		var p *party
		switch g.Role {
		case cluster.RoleNode:
			p = workers
		case cluster.RoleControlPlane:
			p = control
		default:
			continue
		}
		// The next instance is a member too: it must get through as well.
		if len(g.guards) > 0 {
			p.members = append(p.members, g.guards)
		}
		for _, m := range g.machines {
			if len(m.guards) > 0 {
				p.members = append(p.members, m.guards)
			}
			if m.Addr.IsValid() {
				p.addrs = append(p.addrs, m.Addr)
			}
		}
	}
	for _, lb := range balancers {
		if len(lb.SecurityGroups) == 0 {
			balancer.unguarded = true
		} else {
			balancer.members = append(balancer.members, lb.SecurityGroups)
		}
		for _, a := range lb.Addresses {
			if a.IsPrivate() {
				balancer.addrs = append(balancer.addrs, a)
			}
		}
	}
	return []*party{workers, control, balancer}
}

func (l *look) securityGroups(ctx context.Context, ids []string) (map[string]types.SecurityGroup, error) {
	guards := make(map[string]types.SecurityGroup, len(ids))
	for some := range slices.Chunk(ids, 200) {
		in := &ec2.DescribeSecurityGroupsInput{GroupIds: some}
		for {
			out, err := call(ctx, &l.recorder, describeSecurityGroups, fmt.Sprintf("%d security groups", len(some)), l.ec2.DescribeSecurityGroups, in)
			if err != nil {
				return nil, err
			}
			for _, g := range out.SecurityGroups {
				guards[aws.ToString(g.GroupId)] = g
			}
			if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
				break
			}
		}
	}
	return guards, nil
}

// rulesAmong turns security groups into rules. A security group that only some
// members of a party carry proves nothing for the party, and makes the network
// partial.
func rulesAmong(parties []*party, guards map[string]types.SecurityGroup) cloud.Network {
	b := rules{parties: parties, network: cloud.Network{Rules: []cloud.Rule{}}}
	for _, p := range parties {
		p.free = mayAllSend(p, guards)
	}
	for _, to := range parties {
		if to.unguarded {
			b.partial(true)
			if len(to.members) == 0 {
				b.network.Rules = append(b.network.Rules, cloud.Rule{From: cloud.PartyWorld, To: to.name, Protocol: "all", High: 65535, Name: "no security group"})
			}
		}
		// Of a party that nobody saw, nothing is known.
		b.partial(len(to.members) == 0 && to.name != cloud.PartyLoadBalancer)
		for id, guard := range guards {
			switch all, some := to.carry(id); {
			case all:
				for _, permission := range guard.IpPermissions {
					b.add(to, aws.ToString(guard.GroupName), permission)
				}
			case some:
				b.partial(true)
			}
		}
	}
	slices.SortStableFunc(b.network.Rules, func(a, b cloud.Rule) int { return strings.Compare(sortKey(a), sortKey(b)) })
	return b.network
}

func sortKey(r cloud.Rule) string {
	return fmt.Sprintf("%s|%s|%s|%05d|%05d|%s|%v", r.To, r.From, r.Protocol, r.Low, r.High, r.Name, r.Sources)
}

// mayAllSend reports whether security groups let every member of a party send
// anything anywhere, as kOps's do.
func mayAllSend(p *party, guards map[string]types.SecurityGroup) bool {
	return !slices.ContainsFunc(p.members, func(member []string) bool {
		return !slices.ContainsFunc(member, func(id string) bool { return sendsAnything(guards[id]) })
	})
}

func sendsAnything(g types.SecurityGroup) bool {
	return slices.ContainsFunc(g.IpPermissionsEgress, func(p types.IpPermission) bool {
		return aws.ToString(p.IpProtocol) == "-1" && slices.ContainsFunc(p.IpRanges, func(r types.IpRange) bool { return aws.ToString(r.CidrIp) == "0.0.0.0/0" })
	})
}

// rules is a network in the making.
type rules struct {
	parties []*party
	network cloud.Network
}

func (b *rules) partial(yes bool) { b.network.Partial = b.network.Partial || yes }

// add adds what one permission of a security group, which every member of a party
// carries, lets in.
func (b *rules) add(to *party, name string, p types.IpPermission) {
	rule := cloud.Rule{To: to.name, Name: name}
	rule.Protocol, rule.Low, rule.High = portsOf(p)
	for _, pair := range p.UserIdGroupPairs {
		for _, from := range b.parties {
			switch all, some := from.carry(aws.ToString(pair.GroupId)); {
			case all:
				b.allow(rule, from)
			case some:
				b.partial(true)
			}
		}
	}
	for _, text := range rangesOf(p) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			b.partial(true)
			continue
		}
		rule.Sources = []netip.Prefix{prefix}
		if prefix.Bits() == 0 {
			world := rule
			world.From = cloud.PartyWorld
			b.network.Rules = append(b.network.Rules, world)
			continue
		}
		b.network.Rules = append(b.network.Rules, rule)
		for _, from := range b.parties {
			// A range lets a party in if it holds every address of the party.
			if len(from.addrs) > 0 && !slices.ContainsFunc(from.addrs, func(a netip.Addr) bool { return !prefix.Contains(a) }) {
				b.allow(rule, from)
			}
		}
	}
	// What is in a prefix list is not looked up.
	b.partial(len(p.PrefixListIds) > 0)
}

// allow adds a rule from a party, unless its own security groups may hold it back.
func (b *rules) allow(rule cloud.Rule, from *party) {
	if !from.free {
		b.partial(true)
		return
	}
	rule.From = from.name
	b.network.Rules = append(b.network.Rules, rule)
}

func rangesOf(p types.IpPermission) (ranges []string) {
	for _, r := range p.IpRanges {
		ranges = append(ranges, aws.ToString(r.CidrIp))
	}
	for _, r := range p.Ipv6Ranges {
		ranges = append(ranges, aws.ToString(r.CidrIpv6))
	}
	return ranges
}

// portsOf reads protocol and ports. Where there are no ports, as in ICMP, whose
// types stand in their place, the rule is for all of them.
func portsOf(p types.IpPermission) (protocol string, low, high int) {
	switch protocol = aws.ToString(p.IpProtocol); protocol {
	case "-1":
		return "all", 0, 65535
	case "6":
		protocol = "tcp"
	case "17":
		protocol = "udp"
	}
	if protocol != "tcp" && protocol != "udp" || p.FromPort == nil || p.ToPort == nil || *p.FromPort < 0 {
		return protocol, 0, 65535
	}
	return protocol, int(*p.FromPort), int(*p.ToPort)
}
