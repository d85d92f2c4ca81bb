package audit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
)

func TestVerdictsOnRealClusters(t *testing.T) {
	tests := []struct {
		sample   string
		joinable Joinable
		path     cloud.BootPath
		broken   string
		blockers []string
		findings []string
	}{
		{"gossip-1.35", Joins, cloud.BootGossip, "", nil,
			[]string{"MU101", "MU102", "MU201", "MU202", "MU205", "MU310", "MU311", "MU313", "MU324", "MU402"}},
		{"hybrid-1.36-empty-endpoints", DoesNotJoin, cloud.BootName, LinkEndpoints, []string{"MU501 from replacing-nodes"},
			[]string{"MU101", "MU310", "MU311", "MU313", "MU324", "MU402", "MU501"}},
		{"hybrid-1.36", Joins, cloud.BootAddresses, "", nil,
			[]string{"MU101", "MU310", "MU311", "MU313", "MU324", "MU402"}},
		{"none-1.36", Joins, cloud.BootAddresses, "", nil, nil},
		{"gossip-1.35-classic-lb", Joins, cloud.BootGossip, "", []string{"MU601 from to-hybrid"},
			[]string{"MU101", "MU201", "MU202", "MU205", "MU310", "MU311", "MU313", "MU324", "MU402", "MU601"}},
		{"gossip-1.35-no-lb", Joins, cloud.BootGossip, "", []string{"MU602 from to-none"},
			[]string{"MU101", "MU201", "MU202", "MU205", "MU310", "MU311", "MU313", "MU324", "MU402", "MU602", "MU603"}},
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
			if diff := cmp.Diff(tt.blockers, blockers(r)); diff != "" {
				t.Errorf("blockers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.findings, ids(r)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			for _, f := range r.Findings {
				t.Logf("%s %-8s %s: %s", f.ID, f.Severity, f.Subject, f.Observed)
			}
		})
	}
}
