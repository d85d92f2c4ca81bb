package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Release is a release line of kOps; the number is the minor version. A value
// below Release134 follows the rules of 1.34, one above Release137 those of
// 1.37.
type Release int

// The release lines whose rules are known. 1.37 means the release itself: its
// first alpha still carried gossip and counts as 1.36. The rules of 1.34 and
// 1.35 are those of 1.34.3 and 1.35.1 and later.
const (
	Release134 Release = 34
	Release135 Release = 35
	Release136 Release = 36
	Release137 Release = 37
)

// Releases returns the known release lines, oldest first.
func Releases() []Release {
	return []Release{Release134, Release135, Release136, Release137}
}

// String returns "1.36" and the like.
func (r Release) String() string { return "1." + strconv.Itoa(int(r)) }

// MarshalText writes what String returns, so that JSON has "1.36".
func (r Release) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// ParseRelease reads a kOps version such as "1.36", "v1.36.2" or
// "1.37.0-beta.1". A release line whose rules are not known is an error, since
// guessing them would be worse.
func ParseRelease(version string) (Release, error) {
	text := strings.TrimPrefix(version, "v")
	number, pre, _ := strings.Cut(text, "-")
	parts := strings.Split(number, ".")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "1" {
		return 0, fmt.Errorf("kOps version %q is not of the form 1.36 or 1.36.2", clip(version))
	}
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return 0, fmt.Errorf("kOps version %q is not of the form 1.36 or 1.36.2", clip(version))
		}
	}
	minor, _ := strconv.Atoi(parts[1])
	r := Release(minor)
	if !slices.Contains(Releases(), r) {
		return 0, fmt.Errorf("kOps version %q is outside the releases that muster knows, %s to %s", clip(version), Release134, Release137)
	}
	if r == Release137 && pre == "alpha.1" {
		return Release136, nil
	}
	return r, nil
}

// rules are the differences between release lines.
type rules struct {
	// gossip: the release runs gossip clusters; else it refuses their topology
	// and their configuration fields.
	gossip bool

	// hybrid: workers of a gossip cluster with a suitable load balancer do not
	// gossip.
	hybrid bool

	// hostedMatchesGossip: the tests for public and private DNS look at the DNS
	// type alone, and so hold for gossip clusters too.
	hostedMatchesGossip bool

	// classic: AWS clusters may have a classic load balancer.
	classic bool

	// behindBalancer: which gossip clusters put kops-controller behind the
	// load balancer of the API.
	behindBalancer func(*Cluster) bool

	// servedAnyway: clouds whose gossip workers get their configuration from
	// kops-controller without any load balancer.
	servedAnyway []Cloud

	// stripped: clouds on which gossip workers lose the credentials for seed discovery and the state store even though they
	// may still need them.
	stripped []Cloud
}

// rulesOf returns the rules of a release line.
func rulesOf(r Release) rules {
	switch {
	case r <= Release135:
		return rules{
			gossip:              true,
			hostedMatchesGossip: true,
			classic:             true,
			behindBalancer:      func(c *Cluster) bool { return c.Cloud == GCE && c.API.LoadBalancer != nil },
			servedAnyway:        []Cloud{DigitalOcean, Hetzner, Scaleway},
		}
	case r == Release136:
		return rules{
			gossip:         true,
			hybrid:         true,
			classic:        true,
			behindBalancer: (*Cluster).hasBalancerForNodes,
			stripped:       []Cloud{Azure, DigitalOcean, GCE, Hetzner, OpenStack, Scaleway},
		}
	default:
		return rules{
			behindBalancer: func(*Cluster) bool { return false },
		}
	}
}

// hasBalancerForNodes reports whether the API's load balancer can carry the
// nodes' traffic: any on most clouds, a network load balancer on AWS.
func (c *Cluster) hasBalancerForNodes() bool {
	lb := c.API.LoadBalancer
	return lb != nil && (c.Cloud != AWS || lb.Class == LoadBalancerNetwork)
}

// GossipDeadline is how long kOps supports gossip.
type GossipDeadline struct {
	// DeprecatedSince is the version from which kOps calls gossip deprecated.
	DeprecatedSince string
	// Bridge is the only release line that runs hybrid clusters, and the last
	// that runs gossip.
	Bridge Release
	// Refused is the first release line that refuses gossip clusters.
	Refused Release
	// Announced is what the release notes said over time, oldest first. They contradict each other; Refused is what the
	// code does.
	Announced []Announcement
}

// Announcement is what the notes of one kOps version say about gossip. Empty
// means that they do not say.
type Announcement struct {
	// Notes is the version whose release notes say so.
	Notes string
	// RefusesNew is the version that accepts no new gossip clusters.
	RefusesNew string
	// ForcesMigration is the version that existing clusters cannot enter.
	ForcesMigration string
	// Removed is the version without gossip.
	Removed string
}

// Deadline returns kOps's deadline for gossip clusters.
func Deadline() GossipDeadline {
	return GossipDeadline{
		DeprecatedSince: "1.29",
		Bridge:          Release136,
		Refused:         Release137,
		Announced: []Announcement{
			{Notes: "1.35", RefusesNew: "1.36", Removed: "1.37"},
			{Notes: "1.36.2", RefusesNew: "1.37", ForcesMigration: "1.38"},
			{Notes: "1.37", Removed: "1.37"},
		},
	}
}
