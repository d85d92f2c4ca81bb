// Package labtest starts labs for tests that carry out plans on them, and sums up the results of their probers.
package labtest

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// Up runs muster lab up, with the programs in bin, and stops the lab at the end of the test.
func Up(t *testing.T, bin string, args ...string) labctl.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "muster-up-") // paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "muster"), append([]string{"lab", "up", "--dir", dir}, args...)...)
	if output, err := cmd.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "lab.log"))
		t.Fatalf("lab up: %v\n%s\n%s", err, output, log)
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

// Plan returns a plan to none for a manifest, for a lab.
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
	result, err := plan.Find(t.Context(), plan.FromSpec(spec, cluster.Release135, plan.Options{Via: plan.Lab}))
	if err != nil || result.Refused != nil {
		t.Fatalf("no plan: %v, %v", err, result.Refused)
	}
	return plan.Seal(result, plan.SpecFacts(spec.Name, data, cluster.Release135.String()))
}

// Measured is the sum of what all probers of a lab measured, including those of removed workers.
type Measured struct {
	Sent, Failed int                     // on every path
	Balanced     int                     // through local balancers
	BalancedLost int                     // of which failed
	Losses       map[string][]probe.Loss // periods without any working path, by worker
}

// Measure returns the measurements so far.
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

// Drive carries out a plan with reconcile.Run, forward or back, and releases each hold. It returns like Run, but never at a
// hold.
func Drive(t *testing.T, ctx context.Context, cfg reconcile.Config) (reconcile.Result, error) {
	t.Helper()
	for range 2 * len(cfg.Plan.Steps) {
		result, err := reconcile.Run(ctx, cfg)
		if err != nil || result.Ended != reconcile.EndedHolding {
			return result, err
		}
		record, err := reconcile.Read(ctx, cfg.Store, cfg.Plan.Problem.Cluster, reconcile.RunID(cfg.Plan))
		if err != nil {
			return result, err
		}
		st, err := record.Status(lock.State{})
		if err != nil {
			return result, err
		}
		release := reconcile.Request{By: "test", At: time.Now()}
		if _, ok, err := reconcile.ReleaseNext(ctx, cfg.Store, st, release); err != nil || !ok {
			t.Fatalf("held at %s, and no hold to release: %v", result.Step, err)
		}
	}
	t.Fatal("more holds than steps")
	return reconcile.Result{}, nil
}

// Follower is a reconcile.Progress that logs and counts replaced workers. OnStep, if set, is called when a step begins.
type Follower struct {
	T      *testing.T
	OnStep func(plan.Planned)
	Left   map[string]int // workers that left, how often
}

// The methods of reconcile.Progress.

func (f *Follower) Started(l reconcile.Leg) {
	f.T.Logf("leg %d, %s, %d steps", l.Number, l.Direction, len(l.Steps))
}
func (f *Follower) Looked(reconcile.World)         {}
func (f *Follower) Acting(reconcile.Action)        {}
func (f *Follower) Said(line string)               { f.T.Log(line) }
func (f *Follower) Waiting(what, how string)       { f.T.Logf("waits: %s; %s", what, how) }
func (f *Follower) Note(text string)               { f.T.Log(text) }
func (f *Follower) Measured([]report.Availability) {}

func (f *Follower) Step(s plan.Planned) {
	f.T.Logf("step %d: %s", s.Number, s.Title)
	if f.OnStep != nil {
		f.OnStep(s)
	}
}

func (f *Follower) Gate(node string, g report.Gate) {
	if g.Verdict != report.Pass {
		f.T.Logf("%s: %s: %s: %s", node, g.Name, g.Verdict, g.Reason)
	}
}

func (f *Follower) Outcome(a reconcile.Action, trouble string) {
	if trouble != "" {
		f.T.Logf("%s: %s", a.ID, trouble)
		return
	}
	if strings.HasPrefix(a.ID, "leave ") {
		if f.Left == nil {
			f.Left = make(map[string]int)
		}
		f.Left[a.Node]++
	}
}
