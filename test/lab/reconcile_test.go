package lab

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bylab"
	"github.com/muster-dev/muster/internal/report"
)

// labUp starts a lab that ends with the test.
func labUp(t *testing.T, args ...string) labctl.Client {
	t.Helper()
	bin(t)
	dir, err := os.MkdirTemp("", "muster-up-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if code, _, stderr := muster(t, append([]string{"lab", "up", "--dir", dir}, args...)...); code != 0 {
		log, _ := os.ReadFile(dir + "/lab.log")
		t.Fatalf("lab up: exit %d\n%s\n%s", code, stderr, log)
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

// migration finds the plan from gossip to none of a manifest, for the lab.
func migration(t *testing.T, manifest string) plan.File {
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

// carryOut carries a step out: every action, in order, with its gates. It returns
// how many nodes were replaced.
func carryOut(t *testing.T, e reconcile.Executor, s plan.Planned) (replaced int) {
	t.Helper()
	actions, err := e.Actions(t.Context(), s)
	if err != nil {
		t.Fatalf("step %s: %v", s.ID, err)
	}
	for _, a := range actions {
		ctx, cancel := context.WithTimeout(t.Context(), a.Limit)
		if a.Do != nil {
			if err := a.Do(ctx, func(line string) { t.Log(line) }); err != nil {
				t.Fatalf("step %s: %s: %v", s.ID, a.ID, err)
			}
		}
		for _, g := range a.Gates {
			if verdict, reason := await(ctx, g); verdict != report.Pass {
				t.Fatalf("step %s: %s: gate %q: %s: %s", s.ID, a.ID, g.Name, verdict, reason)
			}
		}
		cancel()
		replaced += a.Replaces
	}
	return replaced
}

func await(ctx context.Context, g reconcile.Gate) (report.Verdict, string) {
	ctx, cancel := context.WithTimeout(ctx, g.Within)
	defer cancel()
	last, why := report.Unknown, "not asked"
	for {
		verdict, reason := g.Check(ctx)
		if ctx.Err() == nil {
			last, why = verdict, reason
		}
		if verdict == report.Pass {
			return verdict, reason
		}
		select {
		case <-ctx.Done():
			return last, why
		case <-time.After(cmp.Or(g.Every, time.Second)):
		}
	}
}

// measured sums up what all probers of a lab have measured, of workers that went
// as well.
func measured(t *testing.T, client labctl.Client) (sent, balanced, failed, lost int) {
	t.Helper()
	st, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]probe.Figures)
	maps.Copy(all, st.Departed)
	for _, n := range st.Nodes {
		all[n.Name] = n.Probes
	}
	for name, figures := range all {
		for _, f := range figures {
			sent += f.Sent
			if f.Path != probe.LocalBalancer {
				continue
			}
			balanced += f.Sent
			failed += f.Failed
			if f.Failed > 0 {
				t.Logf("%s: %d of %d probes through its balancer failed: %s", name, f.Failed, f.Sent, f.LastErr)
			}
		}
	}
	for name, losses := range st.Losses {
		lost += len(losses)
		t.Logf("%s had no working path: %+v", name, losses)
	}
	return sent, balanced, failed, lost
}

// From after each step of a migration, the way back that the plan holds leads to a
// cluster that works as before, and no worker is ever without a path.
func TestLabRollsBackFromEveryStep(t *testing.T) {
	file := migration(t, "testdata/three.yaml")
	client := labUp(t, "-f", "testdata/three.yaml")
	executor, err := bylab.New(client, file)
	if err != nil {
		t.Fatal(err)
	}
	origin, err := executor.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ways []string
	for _, way := range file.Back {
		began := time.Now()
		if way.None != "" {
			t.Logf("after step %d there is no way back, as the plan says: %s", way.After, way.None)
			continue
		}
		for _, s := range file.Steps[:way.After] {
			carryOut(t, executor, s)
		}
		replaced := 0
		for _, id := range way.Steps {
			replaced += carryOut(t, executor, plan.Planned{ID: id, Title: id})
		}
		w, err := executor.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if lines := plan.Changed(origin.Facts, w.Facts); len(lines) > 0 {
			t.Errorf("back from step %d other facts: %s", way.After, lines)
		}
		if got, want := essence(w.States[0]), essence(origin.States[0]); got != want {
			t.Errorf("back from step %d:\n got %s\nwant %s", way.After, got, want)
		}
		_, _, _, lost := measured(t, client)
		if lost > 0 {
			t.Fatalf("after the way back from step %d: %d losses", way.After, lost)
		}
		ways = append(ways, fmt.Sprintf("step %d (%s): back by %s; %d nodes replaced, %v", way.After, file.Steps[way.After-1].ID, strings.Join(way.Steps, ", "), replaced, time.Since(began).Round(time.Second)))
	}
	sent, balanced, failed, lost := measured(t, client)
	t.Logf("%d ways back; %d probes, %d through local balancers, of which %d failed; %d losses\n%s", len(ways), sent, balanced, failed, lost, strings.Join(ways, "\n"))
	if len(ways) == 0 || balanced == 0 {
		t.Error("nothing was tried")
	}
}

// essence is what a way back has to restore. What was exposed may stay.
func essence(s plan.State) string {
	return fmt.Sprint(s.None, s.Quiet, s.Members, s.Away, s.Templates, s.Live, s.Bridge, s.PolicyBridge, s.Lookup, s.Controller)
}
