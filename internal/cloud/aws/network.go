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

// party is one side of a rule: its members' security groups and addresses.
type party struct {
	name    string
	members [][]string // security groups of each member
	addrs   []netip.Addr
	// sendsFreely is true if every member's security groups allow all egress.
	sendsFreely bool
	// lacksGroup is true if some member has no security group, as a network load balancer may, and so accepts all ingress.
	lacksGroup bool
}

// carry reports whether all members have a security group, and whether some do.
func (p *party) carry(sg string) (all, some bool) {
	all = len(p.members) > 0
	for _, sgs := range p.members {
		if slices.Contains(sgs, sg) {
			some = true
		} else {
			all = false
		}
	}
	return all, some
}

// network returns what security groups allow between the parties. It ignores network ACLs and routes, which kOps leaves
// open.
func (l *lookup) network(ctx context.Context, groups []*group, balancers []cloud.LoadBalancer) cloud.Network {
	parties := parties(groups, balancers)
	var ids []string
	for _, p := range parties {
		for _, sgs := range p.members {
			ids = append(ids, sgs...)
		}
	}
	if ids = unique(ids); len(ids) == 0 {
		l.gap("network rules", "", errors.New("no security group of an instance or load balancer could be read"))
		return cloud.Network{Partial: true}
	}
	sgs, err := l.securityGroups(ctx, ids)
	if err != nil {
		l.gap("network rules", "", err)
		return cloud.Network{Partial: true}
	}
	return networkRules(parties, sgs)
}

// parties returns the cluster's three parties.
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
		// The next instance counts as a member too.
		if len(g.sgs) > 0 {
			p.members = append(p.members, g.sgs)
		}
		for _, m := range g.machines {
			if len(m.sgs) > 0 {
				p.members = append(p.members, m.sgs)
			}
			if m.Addr.IsValid() {
				p.addrs = append(p.addrs, m.Addr)
			}
		}
	}
	for _, lb := range balancers {
		if len(lb.SecurityGroups) == 0 {
			balancer.lacksGroup = true
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

func (l *lookup) securityGroups(ctx context.Context, ids []string) (map[string]types.SecurityGroup, error) {
	sgs := make(map[string]types.SecurityGroup, len(ids))
	for some := range slices.Chunk(ids, 200) {
		in := &ec2.DescribeSecurityGroupsInput{GroupIds: some}
		for {
			out, err := call(ctx, &l.recorder, describeSecurityGroups, fmt.Sprintf("%d security groups", len(some)), l.ec2.DescribeSecurityGroups, in)
			if err != nil {
				return nil, err
			}
			for _, g := range out.SecurityGroups {
				sgs[aws.ToString(g.GroupId)] = g
			}
			if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
				break
			}
		}
	}
	return sgs, nil
}

// networkRules turns security groups into rules. A security group that only some members of a party have proves nothing
// for the party, and makes the network partial.
func networkRules(parties []*party, sgs map[string]types.SecurityGroup) cloud.Network {
	b := rules{parties: parties, network: cloud.Network{Rules: []cloud.Rule{}}}
	for _, p := range parties {
		p.sendsFreely = allSendFreely(p, sgs)
	}
	for _, to := range parties {
		if to.lacksGroup {
			b.partial(true)
			if len(to.members) == 0 {
				b.network.Rules = append(b.network.Rules, cloud.Rule{From: cloud.PartyWorld, To: to.name, Protocol: "all", High: 65535, Name: "no security group"})
			}
		}
		// Nothing is known of a party without members.
		b.partial(len(to.members) == 0 && to.name != cloud.PartyLoadBalancer)
		for id, sg := range sgs {
			switch all, some := to.carry(id); {
			case all:
				for _, permission := range sg.IpPermissions {
					b.add(to, aws.ToString(sg.GroupName), permission)
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

// allSendFreely reports whether every member of a party has a security group that allows all egress, as kOps's do.
func allSendFreely(p *party, sgs map[string]types.SecurityGroup) bool {
	return !slices.ContainsFunc(p.members, func(member []string) bool {
		return !slices.ContainsFunc(member, func(id string) bool { return allowsAllEgress(sgs[id]) })
	})
}

func allowsAllEgress(g types.SecurityGroup) bool {
	return slices.ContainsFunc(g.IpPermissionsEgress, func(p types.IpPermission) bool {
		return aws.ToString(p.IpProtocol) == "-1" && slices.ContainsFunc(p.IpRanges, func(r types.IpRange) bool { return aws.ToString(r.CidrIp) == "0.0.0.0/0" })
	})
}

// rules builds a network.
type rules struct {
	parties []*party
	network cloud.Network
}

func (b *rules) partial(yes bool) { b.network.Partial = b.network.Partial || yes }

// add adds the rules of one permission of a security group that every member of a party has.
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
			// A range admits a party if it contains every address of the party.
			if len(from.addrs) > 0 && !slices.ContainsFunc(from.addrs, func(a netip.Addr) bool { return !prefix.Contains(a) }) {
				b.allow(rule, from)
			}
		}
	}
	// Prefix lists are not resolved.
	b.partial(len(p.PrefixListIds) > 0)
}

// allow adds a rule from a party, unless that party's own security groups may restrict egress.
func (b *rules) allow(rule cloud.Rule, from *party) {
	if !from.sendsFreely {
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

// portsOf returns protocol and ports. Protocols without ports, such as ICMP, which has types in their place, count as all
// ports.
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
