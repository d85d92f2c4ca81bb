package scaleway

import (
	"context"
	"net/netip"
	"strings"

	"github.com/scaleway/scaleway-sdk-go/api/instance/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// network returns what the servers' security groups allow. kOps creates none: servers are in the project's default group,
// which allows everything unless it was changed. Private networks are not filtered, and the load balancer has its own rules,
// so the network is always partial.
func (p *Provider) network(ctx context.Context, servers []*instance.Server) (cloud.Network, error) {
	n := cloud.Network{Rules: []cloud.Rule{}, Partial: true}
	parties := map[string]map[string]bool{} // group ID to the parties in it
	zones := map[string]scw.Zone{}
	for _, s := range servers {
		if s.SecurityGroup == nil {
			continue
		}
		id := s.SecurityGroup.ID
		zones[id] = s.Zone
		if parties[id] == nil {
			parties[id] = map[string]bool{}
		}
		if party := survey.Party(survey.Role(tagValue(s.Tags, tagRole))); party != "" {
			parties[id][party] = true
		}
	}
	for id, zone := range zones {
		g, err := p.instances.GetSecurityGroup(&instance.GetSecurityGroupRequest{Zone: zone, SecurityGroupID: id}, scw.WithContext(ctx))
		if err != nil {
			return n, rest.Classify("get security group "+id, err)
		}
		rules, err := p.instances.ListSecurityGroupRules(&instance.ListSecurityGroupRulesRequest{Zone: zone, SecurityGroupID: id},
			scw.WithContext(ctx), scw.WithAllPages())
		if err != nil {
			return n, rest.Classify("list rules of security group "+g.SecurityGroup.Name, err)
		}
		for party := range parties[id] {
			n.Rules = append(n.Rules, groupRules(g.SecurityGroup, rules.Rules, party)...)
		}
	}
	return n, nil
}

// groupRules returns the rules that accept. A group that accepts by default can be represented only if no rule drops.
func groupRules(g *instance.SecurityGroup, rules []*instance.SecurityGroupRule, party string) (out []cloud.Rule) {
	drops := false
	for _, r := range rules {
		if r.Direction != instance.SecurityGroupRuleDirectionInbound {
			continue
		}
		if r.Action == instance.SecurityGroupRuleActionDrop {
			drops = true
			continue
		}
		source, ok := netip.AddrFromSlice(r.IPRange.IP)
		ones, _ := r.IPRange.Mask.Size()
		if !ok {
			continue
		}
		rule := cloud.Rule{
			To: party, Sources: []netip.Prefix{netip.PrefixFrom(source.Unmap(), ones).Masked()},
			Protocol: protocol(r.Protocol), High: 65535, Name: g.Name,
		}
		if r.DestPortFrom != nil {
			rule.Low, rule.High = int(*r.DestPortFrom), int(*r.DestPortFrom)
			if r.DestPortTo != nil {
				rule.High = int(*r.DestPortTo)
			}
		}
		out = append(out, rule)
	}
	if drops {
		return nil // an earlier drop may override a later accept: unknown
	}
	if g.InboundDefaultPolicy == instance.SecurityGroupPolicyAccept {
		out = append(out, cloud.Rule{From: cloud.PartyWorld, To: party, Protocol: "all", High: 65535, Name: g.Name})
	}
	return out
}

func protocol(p instance.SecurityGroupRuleProtocol) string {
	if p == instance.SecurityGroupRuleProtocolANY {
		return "all"
	}
	return strings.ToLower(string(p))
}
