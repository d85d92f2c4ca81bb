package packaging

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"testing"
)

// exported finds the metrics in the source of the collector, which describes them
// in one place. The collector is unchecked, so that a registry cannot list them.
func exported(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("../internal/node/metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`prometheus\.NewDesc\("(muster_[a-z_]+)"`).FindAllSubmatch(source, -1) {
		names = append(names, string(m[1]))
	}
	if len(names) < 10 {
		t.Fatalf("found %d metrics in internal/node; the test looked at the wrong thing", len(names))
	}
	return names
}

func TestTheDashboardShowsWhatNodesExport(t *testing.T) {
	data, err := os.ReadFile("grafana/muster-agent.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	// Of the metrics of Prometheus's own collectors the dashboard uses one.
	known := append(exported(t), "process_resident_memory_bytes")
	shown := make(map[string]bool)
	ids := make(map[int]bool)
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q: id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			names := regexp.MustCompile(`\b(?:muster|process|go)_[a-z_]+`).FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("panel %q: no metric in %q", p.Title, target.Expr)
			}
			for _, name := range names {
				shown[name] = true
				if !slices.Contains(known, name) {
					t.Errorf("panel %q: no node exports %s", p.Title, name)
				}
			}
		}
	}
	for _, name := range known {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}
