package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
)

func (p *Problem) maxAway() int { return max(1, p.MaxAway) }

// origin returns the first of the states in which the cluster may have started.
func (p *Problem) origin() State { return p.Starts[0].State }

// groups returns the groups of a role.
func (p *Problem) groups(role cluster.Role) []Group {
	return slices.DeleteFunc(slices.Clone(p.Groups), func(g Group) bool { return g.Role != role })
}

// group returns the phrase for a node of a role, for stories.
func (p *Problem) group(role cluster.Role) string {
	if all := p.groups(role); len(all) > 0 {
		return "a node of " + all[0].Name
	}
	return fmt.Sprintf("a %s node", role)
}

// worker returns the phrase for a worker of a class, for stories.
func (p *Problem) worker(s State, c Class) string {
	for _, g := range p.groups(cluster.RoleNode) {
		if g.Live[c.String()] > 0 {
			return fmt.Sprintf("%s worker of %s", c.one(), g.Name)
		}
	}
	return c.one() + " worker"
}

// role returns the name of the workers' cloud role.
func (p *Problem) role() string { return "nodes." + p.Cluster }

// rollMinutes estimates the time to replace every worker, group by group.
func (p *Problem) rollMinutes() (minutes int) {
	for _, g := range p.groups(cluster.RoleNode) {
		minutes += minutesPerWorker * ((g.Size() + p.maxAway() - 1) / p.maxAway())
	}
	return minutes
}

// Planning figures for draining, replacing and verifying one node.
const (
	minutesPerWorker = 6
	minutesPerMember = 10
)

// template returns the phrase for a template of a class.
func template(c Class) string {
	if c == Unresolved {
		return "a template without any address"
	}
	return c.one() + " template"
}

// String describes the cluster in one line.
func (s State) String() string {
	var parts []string
	say := func(yes bool, format string, args ...any) {
		if yes {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	say(true, "workers %s, templates %s", s.Live, s.Templates)
	gossiping, quiet := s.Members.gossiping(), s.Members.quiet()
	say(gossiping > 0, "%d control-plane nodes gossip", gossiping)
	say(quiet > 0, "%d control-plane nodes do not gossip", quiet)
	say(s.Away > 0, "%d control-plane nodes are away", s.Away)
	say(s.Network && s.API && s.Config, "load balancer serves 443 and 3988")
	say(s.Network && s.API && !s.Config, "load balancer serves 443")
	say(s.Network && !s.API, "load balancer without targets")
	say(s.Classic && !s.Emptied, "classic load balancer serves people")
	say(s.Classic && s.Emptied, "classic load balancer without targets")
	say(s.Serves, "control plane serves endpoints")
	say(s.Controller, "dns-controller publishes")
	say(s.Bridge, "bridge into the overlay")
	say(s.Lookup, "workers may look for seeds")
	say(s.PolicyBridge, "bridge policy")
	return strings.Join(parts, "; ")
}
