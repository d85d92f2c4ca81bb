package cluster

import (
	"strings"
	"testing"
)

func TestTheNoticeDependsOnTheKopsInTheStore(t *testing.T) {
	gossip := &Cluster{Name: "atlas.k8s.local", DNSType: DNSPrivate}
	for r, want := range map[Release]string{
		0:          "which kOps it has is not known",
		Release134: "it has kOps 1.34: go to 1.36",
		Release135: "it has kOps 1.35: go to 1.36",
		Release136: "before any newer kOps touches it",
		Release137: "go back to 1.36",
	} {
		got := gossip.GossipNotice(r)
		if !strings.Contains(got, want) || !strings.Contains(got, "1.37 refuses it") || strings.Contains(got, "\n") {
			t.Errorf("%s: %q, want %q in it", r, got, want)
		}
	}
	for _, c := range []*Cluster{{Name: "atlas.k8s.local", DNSType: DNSNone}, {Name: "atlas.example.com"}} {
		if got := c.GossipNotice(Release136); got != "" {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
