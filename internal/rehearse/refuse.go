package rehearse

import (
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
)

// Refusals returns why a cluster cannot reach a topology, one line each. With list,
// workers get the control plane's addresses and a local balancer, so that kOps's
// requirements for load balancers do not apply.
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

// CheckFault returns an error if there is no such kind of fault. Empty is valid, and
// means none.
func CheckFault(kind string) error {
	if kind == "" {
		return nil
	}
	if _, err := findFault(kind); err != nil {
		return &lab.UsageError{Err: err}
	}
	return nil
}
