package rehearse

import (
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
)

// Refusals returns why a cluster cannot get to a topology, in one line each. With
// list, workers get the control plane's addresses and a balancer of their own,
// so that what kOps says about load balancers does not matter to them.
func Refusals(c *cluster.Cluster, to cluster.Topology, list bool) []string {
	if c.UsesNoneDNS() && to == cluster.Hybrid {
		return []string{"the cluster is none already, and hybrid lies behind it"}
	}
	if !c.UsesNoneDNS() && !cluster.IsGossipName(c.Name) {
		return []string{"the cluster does not gossip: its name does not end in .k8s.local; hosted DNS is not Muster's to change"}
	}
	var reasons []string
	for _, r := range c.Refusals(to, cluster.Release136) {
		switch r.Code {
		case cluster.CodeNoLoadBalancer, cluster.CodeLoadBalancerClass, cluster.CodeBecomesHybrid:
			if list {
				continue
			}
			r.Next += " (or rehearse with --endpoints list)"
		}
		reasons = append(reasons, r.String())
	}
	return reasons
}

// CheckFault reports a fault that does not exist. The empty kind is no fault.
func CheckFault(kind string) error {
	if kind == "" {
		return nil
	}
	if _, err := findFault(kind); err != nil {
		return &lab.UsageError{Err: err}
	}
	return nil
}
