package reconcile

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/report"
)

// killedDuring returns a scene whose run died in the middle of an action of a step.
func killedDuring(t *testing.T, step string) *scene {
	t.Helper()
	s := newScene()
	s.release(t)
	s.during(step, func(a *Action) {
		a.Do = func(context.Context, func(string)) error {
			s.executor.fuse.At = s.executor.fuse.Passed() + 1
			return s.executor.fuse.Point()
		}
	})
	s.migrate(t, 0)
	s.executor.hook, s.executor.aborted = nil, nil
	time.Sleep(lock.Term + time.Second)
	s.executor.fuse, s.cfg.Store = &killtest.Fuse{}, s.store
	return s
}

func TestAnotherDirectionTidiesUpAfterWhatAKilledRunHasBegun(t *testing.T) {
	for name, test := range map[string]struct {
		step, action string
		to           report.Direction
		ended        string
	}{
		"a way back": {"roll-workers", "nodes-a-1", report.Back, EndedReturned},
		"an abort":   {"publish", "publish", report.Abort, EndedAborted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := killedDuring(t, test.step)
				s.cfg.Direction = test.to
				if _, err := DryRun(t.Context(), s.cfg, false); err != nil || len(s.executor.aborted) > 0 {
					t.Errorf("a dry run tidied up %q, %v", s.executor.aborted, err)
				}
				if r := s.run(t); r.Ended != test.ended {
					t.Errorf("ended %+v", r)
				}
				if !slices.Equal(s.executor.aborted, []string{test.action}) {
					t.Errorf("tidied up %q; want %s", s.executor.aborted, test.action)
				}
				at := slices.IndexFunc(s.record(t).Entries, func(e journal.Entry) bool {
					return e.Kind == journal.Outcome && e.Action == test.action && strings.Contains(string(e.Detail), "tidied up "+test.action)
				})
				if at < 0 {
					t.Error("the journal does not say so")
				}
			})
		})
	}
}

func TestNoLegBeginsWhileNothingTidiesUpAfterTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := killedDuring(t, "roll-workers")
		s.cfg.Direction = report.Back
		s.during("roll-workers", func(a *Action) {
			a.Abort = func(context.Context) (string, error) { return "", errors.New("the API does not answer") }
		})
		if _, err := Run(t.Context(), s.cfg); err == nil || !strings.Contains(err.Error(), "tidy up after replace nodes-a-1: the API does not answer") {
			t.Errorf("%v; want what could not be tidied up", err)
		}
		if p := s.position(t); p.leg.Direction != report.Forward || len(p.open) != 1 {
			t.Errorf("leg %s with %d open actions; want the one that died, to be tidied up the next time", p.leg.Direction, len(p.open))
		}
	})
}
