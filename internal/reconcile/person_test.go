package reconcile

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/report"
)

// byAPerson makes the step expose one that a person carries out. The function
// returned does it.
func (s *scene) byAPerson(t *testing.T) func() {
	var done atomic.Bool
	s.during("expose", func(a *Action) {
		a.Person, a.Do = true, nil
		a.Gates = []Gate{answers("exposed", 0, func() (report.Verdict, string) {
			if done.Load() {
				return report.Pass, "it is there"
			}
			return report.Fail, "there is none; type kops update cluster"
		})}
	})
	return func() {
		t.Helper()
		if err := s.executor.act("expose", toggles["expose"].do); err != nil {
			t.Fatal(err)
		}
		done.Store(true)
	}
}

func TestAnActionForAPersonHoldsTheRunAndDoesNotFailIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		do := s.byAPerson(t)
		for range 2 {
			r := s.run(t)
			if r.Ended != EndedHolding || !strings.HasPrefix(r.Why, "your turn: ") || !strings.HasSuffix(r.Why, ": there is none; type kops update cluster") {
				t.Fatalf("ended %+v; want that it is their turn, and what to type", r)
			}
		}
		do()
		if r := s.run(t); r.Ended != EndedDone {
			t.Errorf("once it was done: %+v", r)
		}
	})
}

func TestARunThatWaitsContinuesOnceAPersonHasActed(t *testing.T) {
	for name, abort := range map[string]bool{"and goes on": false, "and may be aborted meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.release(t)
				s.cfg.Wait = true
				do := s.byAPerson(t)
				ended := make(chan Result, 1)
				go func() {
					r, err := Run(t.Context(), s.cfg)
					if err != nil {
						t.Error(err)
					}
					ended <- r
				}()
				time.Sleep(time.Hour) // more than a lock's term
				entries := len(s.record(t).Entries)
				time.Sleep(time.Hour)
				if now := len(s.record(t).Entries); now != entries {
					t.Errorf("waiting for an hour wrote %d entries", now-entries)
				}
				want := EndedDone
				if abort {
					want = EndedAborted
					s.say(t, func(c *Control) { c.Abort = &Word{By: "bob"} })
				} else {
					do()
				}
				if r := <-ended; r.Ended != want {
					t.Errorf("ended %+v, want %s", r, want)
				}
			})
		})
	}
}
