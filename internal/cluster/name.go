package cluster

import "strings"

// gossipSuffix ends the name of a gossip cluster. The dot belongs to it: a
// cluster called just "k8s.local" is not one.
const gossipSuffix = ".k8s.local"

// The three names that belong to a cluster, without its own name.
const (
	apiPrefix            = "api."
	apiInternalPrefix    = "api.internal."
	kopsControllerPrefix = "kops-controller.internal."
)

// IsGossipName reports whether kOps up to 1.36 takes a cluster of this name for
// a gossip cluster, unless its DNS type is None. One trailing dot is ignored.
func IsGossipName(name string) bool {
	return strings.HasSuffix(strings.TrimSuffix(name, "."), gossipSuffix)
}

// Names returns the names that belong to the cluster: api, api.internal and
// kops-controller.internal under the cluster's name, in this order.
func (c *Cluster) Names() []string {
	return []string{
		apiPrefix + c.Name,
		apiInternalPrefix + c.Name,
		kopsControllerPrefix + c.Name,
	}
}

// OwnsName reports whether name is one of the three names of [Cluster.Names]
// for the given cluster name, and so may stand in a hosts file. Letter case and
// one trailing dot do not matter; everything else must match exactly.
func OwnsName(cluster, name string) bool {
	cluster = strings.TrimSuffix(cluster, ".")
	name = strings.TrimSuffix(name, ".")
	if cluster == "" {
		return false
	}
	for _, prefix := range [...]string{apiPrefix, apiInternalPrefix, kopsControllerPrefix} {
		// The lengths are compared in bytes, so that a Kelvin sign does not
		// fold to a k: it has three.
		if len(name) == len(prefix)+len(cluster) &&
			strings.EqualFold(name[:len(prefix)], prefix) &&
			strings.EqualFold(name[len(prefix):], cluster) {
			return true
		}
	}
	return false
}

// isDNSName reports whether s is a DNS name as kubernetes wants object names:
// lower-case labels of letters, digits and inner hyphens, 253 bytes at most.
// Names become path elements and hosts entries, so nothing else gets through.
func isDNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}
