package lab

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bylab"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/test/labtest"
)

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

// From after each step of a migration, the way back that the plan holds leads to a
// cluster that works as before, and no worker is ever without a path.
func TestLabRollsBackFromEveryStep(t *testing.T) {
	programs := bin(t)
	file := labtest.Plan(t, "testdata/three.yaml")
	client := labtest.Up(t, programs, "-f", "testdata/three.yaml")
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
		if m := labtest.Measure(t, client); len(m.Losses) > 0 {
			t.Fatalf("on the way to step %d and back workers had no working path: %+v", way.After, m.Losses)
		}
		ways = append(ways, fmt.Sprintf("step %d (%s): back by %s; %d nodes replaced, %v", way.After, file.Steps[way.After-1].ID, strings.Join(way.Steps, ", "), replaced, time.Since(began).Round(time.Second)))
	}
	m := labtest.Measure(t, client)
	t.Logf("%d ways back; %d probes, %d through local balancers, of which %d failed; %d losses\n%s", len(ways), m.Sent, m.Balanced, m.BalancedLost, len(m.Losses), strings.Join(ways, "\n"))
	if len(ways) == 0 || m.Balanced == 0 {
		t.Error("nothing was tried")
	}
}

// essence is what a way back has to restore. What was exposed may stay.
func essence(s plan.State) string {
	return fmt.Sprint(s.None, s.Quiet, s.Members, s.Away, s.Templates, s.Live, s.Bridge, s.PolicyBridge, s.Lookup, s.Controller)
}
