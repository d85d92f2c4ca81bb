package cluster

import "fmt"

// GossipNotice returns one sentence on when kOps drops support for the cluster, given the release that last updated it
// (0 if unknown). It is empty for clusters that do not gossip.
func (c *Cluster) GossipNotice(r Release) string {
	if c.UsesNoneDNS() || !IsGossipName(c.Name) {
		return ""
	}
	d := Deadline()
	common := fmt.Sprintf("%s gossips, deprecated since kOps %s; kOps %s refuses it, and %s is the only bridge", c.Name, d.DeprecatedSince, d.Refused, d.Bridge)
	switch {
	case r == 0:
		return common + "; which kOps it has is not known"
	case r < d.Bridge:
		return fmt.Sprintf("%s; it has kOps %s: go to %s, take it to None there, and only then further", common, r, d.Bridge)
	case r == d.Bridge:
		return fmt.Sprintf("%s; it has kOps %s: take it to None before any newer kOps touches it", common, r)
	default:
		return fmt.Sprintf("%s; kOps %s has touched it already: go back to %s and take it to None there", common, r, d.Bridge)
	}
}
