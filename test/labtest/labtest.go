// Package labtest starts labs for tests, and sums up what their probers measured.
// It is for tests that carry plans out on a lab that runs by itself.
package labtest

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
)

// Up runs muster lab up, from a directory of built programs, and ends the lab with
// the test.
func Up(t *testing.T, bin string, args ...string) labctl.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "muster-up-") // a socket's path is to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "muster"), append([]string{"lab", "up", "--dir", dir}, args...)...)
	if said, err := cmd.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "lab.log"))
		t.Fatalf("lab up: %v\n%s\n%s", err, said, log)
	}
	client := labctl.Client{Dir: dir}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := client.Down(ctx); err != nil {
			t.Errorf("lab down: %v", err)
		}
	})
	return client
}

// Plan finds the plan to none of a manifest, for the lab to carry out.
func Plan(t *testing.T, manifest string) plan.File {
	t.Helper()
	data, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := cluster.Parse(manifest, data)
	if err != nil {
		t.Fatal(err)
	}
	found, err := plan.Find(t.Context(), plan.FromSpec(spec, cluster.Release135, plan.Ask{Via: plan.Lab}))
	if err != nil || found.Refused != nil {
		t.Fatalf("no plan: %v, %v", err, found.Refused)
	}
	return plan.Seal(found, plan.SpecFacts(spec.Name, data, cluster.Release135.String()))
}

// Measured is what all probers of a lab have measured, those of workers that went
// among them.
type Measured struct {
	Sent, Failed int                     // on every path
	Balanced     int                     // through local balancers
	BalancedLost int                     // of which failed
	Losses       map[string][]probe.Loss // stretches without any working path, by worker
}

// Measure sums up what was measured so far.
func Measure(t *testing.T, client labctl.Client) Measured {
	t.Helper()
	st, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := Measured{Losses: st.Losses}
	all := make(map[string][]probe.Figures)
	maps.Copy(all, st.Departed)
	for _, n := range st.Nodes {
		all[n.Name] = n.Probes
	}
	for name, figures := range all {
		for _, f := range figures {
			m.Sent += f.Sent
			m.Failed += f.Failed
			if f.Path == probe.LocalBalancer {
				m.Balanced += f.Sent
				m.BalancedLost += f.Failed
			}
			if f.Failed > 0 {
				t.Logf("%s, path %s: %d of %d probes failed: %s", name, f.Path, f.Failed, f.Sent, f.LastErr)
			}
		}
	}
	return m
}
