package bykops_test

import (
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

func TestAWSTheWayBackFromAfterTheCanariesReplacesThemAlone(t *testing.T) {
	s, _ := fromScratch(t)
	f := s.plan(cluster.None)
	s.release(f)
	forth := &story{t: t}
	result, err := reconcile.Run(t.Context(), reconcile.Config{Plan: f, Store: s.store, Owner: "test", Progress: forth, Executor: s.executor(f, nil), Gates: s.until(f, numberOf(f, "canary"))})
	if err != nil || !strings.Contains(result.Why, "the test stops here") {
		t.Fatalf("forward: %+v, %v\n%s", result, err, forth)
	}
	want, shown := canaries(s.see().Cloud), s.previewBack(f)
	back := &story{t: t}
	result, err = reconcile.Run(t.Context(), reconcile.Config{Plan: f, Store: s.store, Owner: "test", Progress: back, Executor: s.executor(f, nil), Direction: report.Back})
	if err != nil || result.Ended != reconcile.EndedReturned || len(want) != 1 {
		t.Fatalf("back: %+v, %v from %v\n%s", result, err, want, back)
	}
	checkCanariesAlone(t, 2, want, shown, back)
}
