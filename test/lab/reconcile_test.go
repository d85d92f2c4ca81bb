package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bylab"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store/mem"
	"github.com/muster-dev/muster/test/labtest"
)

// A rollback after each step of a migration restores the cluster, and no worker is ever without a path. One lab goes forward
// and back for each step, each time in a separate run.
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
	// The lab's probers measure; a gate on them would stop the run when a busy machine
	// stalls for a second.
	cfg := reconcile.Config{Plan: file, Executor: executor, Owner: "test"}
	var ways []string
	for _, way := range file.Back {
		if way.None != "" {
			t.Logf("after step %d there is no way back, as the plan says: %s", way.After, way.None)
			continue
		}
		began := time.Now()
		cfg.Store = &mem.Store{Name: "lab"} // a run that was rolled back has ended
		runUpTo(t, cfg, way.After)
		back := cfg
		back.Direction = report.Back
		said := &labtest.Follower{T: t}
		back.Progress = said
		result, err := labtest.Drive(t, t.Context(), back)
		if err != nil || result.Ended != reconcile.EndedReturned {
			t.Fatalf("the way back from step %d ended %+v, %v", way.After, result, err)
		}
		w, err := executor.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if lines := plan.Changed(origin.Facts, w.Facts); len(lines) > 0 {
			t.Errorf("back from step %d other facts: %s", way.After, lines)
		}
		if got, want := restorable(w.States[0]), restorable(origin.States[0]); got != want {
			t.Errorf("back from step %d:\n got %s\nwant %s", way.After, got, want)
		}
		if m := labtest.Measure(t, client); len(m.Losses) > 0 {
			t.Fatalf("on the way to step %d and back workers had no working path: %+v", way.After, m.Losses)
		}
		ways = append(ways, fmt.Sprintf("step %d (%s): %d workers replaced on the way back, %v there and back",
			way.After, file.Steps[way.After-1].ID, len(said.Left), time.Since(began).Round(time.Second)))
	}
	m := labtest.Measure(t, client)
	t.Logf("%d ways back; %d probes, %d through local balancers, of which %d failed; %d workers without a path\n%s",
		len(ways), m.Sent, m.Balanced, m.BalancedLost, len(m.Losses), strings.Join(ways, "\n"))
	if len(ways) == 0 || m.Balanced == 0 {
		t.Error("nothing was tried")
	}
}

// runUpTo carries out a plan through a step, and interrupts it when the next begins.
func runUpTo(t *testing.T, cfg reconcile.Config, after int) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	cfg.Progress = &labtest.Follower{T: t, OnStep: func(s plan.Planned) {
		if s.Number > after {
			interrupt()
		}
	}}
	result, err := labtest.Drive(t, ctx, cfg)
	if after < len(cfg.Plan.Steps) && !errors.Is(err, context.Canceled) && result.Ended != reconcile.EndedInterrupted {
		t.Fatalf("up to step %d: ended %+v, %v", after, result, err)
	}
}

// restorable returns what a rollback must restore. What was exposed may stay.
func restorable(s plan.State) string {
	return fmt.Sprint(s.None, s.Quiet, s.Members, s.Away, s.Templates, s.Live, s.Bridge, s.PolicyBridge, s.Lookup, s.Controller)
}
