package reconcile

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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

// What only a person can say ends a run that waits, too: nobody can say it there.
func TestAnActionThatOnlyAPersonCanConfirmEndsTheRun(t *testing.T) {
	for name, wait := range map[string]bool{"one that waits": true, "one that does not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.release(t)
				s.cfg.Wait = wait
				do := s.byAPerson(t)
				hook := s.executor.hook
				s.during("expose", func(a *Action) {
					hook("expose", a)
					a.Confirm = "--confirmed expose"
					a.Gates = []Gate{answers("it is done", 0, func() (report.Verdict, string) { return report.Unknown, "nobody has said so" })}
				})
				want := Result{Ended: EndedHolding, Step: "1 of 15, expose port 3988 on the load balancer", Reached: 1, Confirm: "--confirmed expose", Why: "your turn: expose port 3988 on the load balancer: nobody has said so"}
				if diff := cmp.Diff(want, s.run(t)); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
				do()
				s.executor.hook = hook
				if r := s.run(t); r.Ended != EndedDone {
					t.Errorf("once it was said: %+v", r)
				}
			})
		})
	}
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
					s.say(t, func(c *Control) { c.Abort = &Request{By: "bob"} })
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
