package audit

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

func TestVerdictsOnRealClusters(t *testing.T) {
	tests := []struct {
		sample   string
		joinable Joinable
		path     cloud.BootPath
		broken   string
		findings []string // as outlooks returns them
	}{
		{"gossip-1.35", Joins, cloud.BootGossip, "",
			[]string{"MU101 kOps 1.37 none", "MU102 nothing hybrid", "MU201 nothing hybrid", "MU202 nothing hybrid", "MU205 nothing hybrid",
				"MU310 nothing none", "MU311 nothing none", "MU402 nothing none"}},
		{"hybrid-1.36-empty-endpoints", DoesNotJoin, cloud.BootName, LinkEndpoints,
			[]string{"MU101 kOps 1.37 none",
				"MU310 nothing none", "MU311 nothing none", "MU313 nothing none", "MU324 nothing none", "MU402 nothing none", "MU501 new nodes stays"}},
		{"hybrid-1.36", Joins, cloud.BootAddresses, "",
			[]string{"MU101 kOps 1.37 none",
				"MU310 nothing none", "MU311 nothing none", "MU313 nothing none", "MU324 nothing none", "MU402 nothing none"}},
		{"none-1.36", Joins, cloud.BootAddresses, "", nil},
		{"gossip-1.35-classic-lb", Joins, cloud.BootGossip, "",
			[]string{"MU101 kOps 1.37 none", "MU201 nothing none", "MU202 nothing none", "MU205 nothing none",
				"MU310 nothing none", "MU311 nothing none", "MU402 nothing none", "MU601 to hybrid stays"}},
		{"gossip-1.35-no-lb", Joins, cloud.BootGossip, "",
			[]string{"MU101 kOps 1.37 none", "MU201 nothing none", "MU202 nothing none", "MU205 nothing none",
				"MU310 nothing none", "MU311 nothing none", "MU402 nothing none", "MU602 to hybrid stays", "MU603 nothing stays"}},
	}
	for _, tt := range tests {
		t.Run(tt.sample, func(t *testing.T) {
			r := Run(sample(t, tt.sample), nil)
			for _, g := range r.Groups {
				t.Logf("%s: %s by %s, broken %q", g.Name, g.Joinable, g.Path, g.BrokenLink)
				for _, l := range g.Evidence {
					t.Logf("  %-24s %-8s %s", l.Name, l.State, l.Detail)
				}
				if strings.HasPrefix(g.Name, "control-plane") && g.Joinable != Joins {
					t.Errorf("control plane %s %s at %s", g.Name, g.Joinable, g.BrokenLink)
				}
			}
			g := groupNamed(t, r, "nodes-us-east-1a")
			if g.Joinable != tt.joinable || g.Path != tt.path || g.BrokenLink != tt.broken {
				t.Errorf("workers: %s by %s, broken %q; want %s by %s, broken %q", g.Joinable, g.Path, g.BrokenLink, tt.joinable, tt.path, tt.broken)
			}
			if diff := cmp.Diff(tt.findings, outlooks(r)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			for _, f := range r.Findings {
				t.Logf("%s %-8s %s: %s", f.ID, f.Severity, f.Subject, f.Observed)
			}
		})
	}
}

// TestFindingsOfARealClusterAreGoneAfterTheirTopology compares the same cluster as kOps
// built it in gossip, in hybrid and in None.
func TestFindingsOfARealClusterAreGoneAfterTheirTopology(t *testing.T) {
	before := Run(sample(t, "gossip-1.35"), nil)
	hybrid, none := ids(Run(sample(t, "hybrid-1.36"), nil)), ids(Run(sample(t, "none-1.36"), nil))
	for _, f := range before.Findings {
		inHybrid, inNone := slices.Contains(hybrid, f.ID), slices.Contains(none, f.ID)
		if want := f.GoneAfter == cluster.None; inHybrid != want || inNone != (f.GoneAfter == Stays) {
			t.Errorf("%s is said to be gone after %s; there in hybrid: %v, in none: %v", f.ID, f.GoneAfter, inHybrid, inNone)
		}
	}
}
