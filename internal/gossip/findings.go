package gossip

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// NodePrefix begins the node names that Muster uses to read an overlay.
const NodePrefix = "muster-gossip-"

// findings returns the findings about a report, worst first.
func findings(e Expect, r Report, now time.Time) []Finding {
	out := []Finding{}
	add := func(code string, s Severity, o Overlay, format string, args ...any) {
		out = append(out, Finding{code, s, o, fmt.Sprintf(format, args...)})
	}
	for _, u := range r.Unread {
		add(CodeUnread, Medium, u.Overlay, "%s told nothing: %s", u.Address, u.Error)
	}
	for _, o := range r.Overlays {
		switch {
		case o == Memberlist:
			add(CodeNotEncrypted, High, o, "never encrypted and without password: whoever reaches port %d can set %s", o.Port(), e.apiName())
		case !e.Secret:
			add(CodeNoPassword, High, o, "no password: whoever reaches port %d can set %s", o.Port(), e.apiName())
		}
		if apiValue(e, r, o) == "" {
			add(CodeNoAPI, High, o, "%s has no address to be believed: a node that starts now finds no API server here", e.apiName())
		}
		if !slices.ContainsFunc(r.Records, func(rec Record) bool {
			return rec.Overlay == o && rec.Key == legacy.MarkerKey && rec.Value == legacy.MarkerValue && !rec.Tombstone
		}) {
			add(CodeNoMarker, Medium, o, "the zone marker %s is missing: dns-controller publishes nothing before it is there; protokube writes it when it starts", legacy.MarkerKey)
		}
	}
	for _, rec := range r.Records {
		recordFindings(e, rec, now, add)
	}
	for _, t := range r.Ties {
		add(CodeTie, Medium, t.Overlay, "%s has two values of version %d (%s): peers disagree until somebody writes it again", t.Key, t.Version, strings.Join(t.Values, " and "))
	}
	for _, d := range r.Differences {
		add(CodeOverlaysDiffer, Medium, "", "%s: weave says %s, kops-memberlist says %s; kOps reads from the primary only", d.Key, textOrNothing(d.Weave), textOrNothing(d.Memberlist))
	}
	for _, p := range r.Peers {
		if p.State.Gone() && !strings.HasPrefix(p.NickName, NodePrefix) {
			add(CodeDeadPeer, Medium, p.Overlay, "%s is %s: the overlay still knows it, and nobody reaches it", p.Label(), p.State)
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(rankOf(a.Severity), rankOf(b.Severity)) })
	return out
}

func rankOf(s Severity) int { return slices.Index([]Severity{High, Medium, Info}, s) }

func textOrNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func recordFindings(e Expect, rec Record, now time.Time, add func(string, Severity, Overlay, string, ...any)) {
	ours := slices.Contains(e.names(), rec.Name)
	address := rec.Type == legacy.TypeA || rec.Type == legacy.TypeAAAA
	switch {
	case unbeatable(rec.Version, now):
		add(CodeUnbeatable, High, rec.Overlay, "%s has version %d, which nobody can exceed: it goes only when all peers have been stopped at the same time", rec.Key, rec.Version)
	case rec.Version > uint64(now.Add(legacy.DefaultMaxAhead).Unix()):
		add(CodeFuture, Medium, rec.Overlay, "%s: %s; until then no writer with a right clock can replace it", rec.Key, rec.Why)
	}
	if len(rec.MissedBy) > 0 {
		add(CodePeersDiffer, Medium, rec.Overlay, "%s: version %d is held by %s, not by %s", rec.Key, rec.Version, strings.Join(rec.HeldBy, ", "), strings.Join(rec.MissedBy, ", "))
	}
	switch {
	case rec.Name == "":
		add(CodeMalformed, Info, rec.Overlay, "%s: readers ignore it", rec.Why)
	case rec.Tombstone && ours && address:
		add(CodeWithdrawn, Medium, rec.Overlay, "%s (%s) has been withdrawn: nodes keep what they have, new ones find nothing under it", rec.Name, rec.Type)
	case rec.Tombstone || !address:
		// A tombstone of another name is how this protocol deletes.
	case !ours && belongsBelow(e.Cluster, rec.Name):
		add(CodeExtraName, Info, rec.Overlay, "%s is a name below the cluster's that Muster puts into no hosts file; protokube does", rec.Name)
	case !ours && !strings.HasSuffix(rec.Name, "."+legacy.Zone):
		add(CodeForeignName, Info, rec.Overlay, "%s does not belong to %s, nor to any gossip cluster: readers ignore it", rec.Name, e.Cluster)
	case !ours:
		add(CodeForeignName, Medium, rec.Overlay, "%s does not belong to %s: protokube writes it to every node's hosts file all the same", rec.Name, e.Cluster)
	}
	if ours && address && !rec.Tombstone {
		if outside := outsideNetworks(e, rec.Addresses); len(outside) > 0 {
			add(CodeForeignAddress, High, rec.Overlay, "%s points at %s, outside the cluster's networks: protokube writes it to every node's hosts file all the same", rec.Name, strings.Join(outside, ", "))
		}
	}
}

func belongsBelow(cluster, name string) bool { return strings.HasSuffix(name, "."+cluster) }

// outsideNetworks returns the addresses outside the cluster's networks.
func outsideNetworks(e Expect, addrs []string) (out []string) {
	for _, text := range addrs {
		a, err := netip.ParseAddr(text)
		if err == nil && !inside(e.networks(), a) {
			out = append(out, text)
		}
	}
	return out
}
