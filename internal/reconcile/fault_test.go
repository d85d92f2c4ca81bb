package reconcile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/report"
)

// during breaks the actions of one step.
func (s *scene) during(step string, f func(a *Action)) {
	s.executor.hook = func(id string, a *Action) {
		if id == step {
			f(a)
		}
	}
}

// answers is a gate that answers as a function says.
func answers(name string, within time.Duration, f func() (report.Verdict, string)) Gate {
	return Gate{Name: name, Within: within, Check: func(context.Context) (report.Verdict, string) { return f() }}
}

// The rows of the fault table that are the driver's to survive, or to stop at.
func TestFaultsEndAsPredicted(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, s *scene)
		ended string
		why   string // part of what is said
		after func(t *testing.T, s *scene)
	}{
		{
			name: "a canary that never joins stops the roll before any other worker is touched, and is tidied up",
			spoil: func(_ *testing.T, s *scene) {
				s.during("canary", func(a *Action) {
					a.Do = func(context.Context, func(string)) error { return nil }
					a.Gates = []Gate{answers("the canary is a node", 5*time.Minute, func() (report.Verdict, string) { return report.Fail, "no node after 5 min" })}
				})
			},
			ended: EndedStopped, why: `gate "the canary is a node": fail: no node after 5 min`,
			after: func(t *testing.T, s *scene) {
				if len(s.executor.aborted) != 1 || len(s.backend.t.Replaced) != 0 {
					t.Errorf("tidied up %v, replaced %v; want the canary alone tidied up, and nothing replaced", s.executor.aborted, s.backend.t.Replaced)
				}
			},
		},
		{
			name: "a canary that joins by the old path stops the roll",
			spoil: func(_ *testing.T, s *scene) {
				s.during("canary", func(a *Action) {
					a.Gates = append(a.Gates, answers("it joined through the load balancer", time.Minute, func() (report.Verdict, string) { return report.Fail, "it asked a gossip seed" }))
				})
			},
			ended: EndedStopped, why: "it asked a gossip seed",
			after: func(t *testing.T, s *scene) {
				if n := len(s.backend.t.Replaced); n != 1 {
					t.Errorf("%d places filled anew; want the canary's", n)
				}
			},
		},
		{
			name: "an API that flaps is waited for",
			spoil: func(_ *testing.T, s *scene) {
				s.during("roll-workers", func(a *Action) {
					began := time.Now()
					a.Gates = append(a.Gates, answers("the API answers", time.Minute, func() (report.Verdict, string) {
						if time.Since(began) < 20*time.Second {
							return report.Unknown, "connection refused"
						}
						return report.Pass, "200 OK"
					}))
				})
			},
			ended: EndedDone,
		},
		{
			name: "an API that does not come back is unknown, and unknown stops",
			spoil: func(_ *testing.T, s *scene) {
				s.during("roll-workers", func(a *Action) {
					a.Gates = append(a.Gates, answers("the API answers", time.Minute, func() (report.Verdict, string) { return report.Unknown, "connection refused" }))
				})
			},
			ended: EndedStopped, why: "unknown: connection refused (after 1m0s)",
		},
		{
			name: "a spec that is edited in the middle of a step stops it between two actions",
			spoil: func(_ *testing.T, s *scene) {
				s.during("roll-workers", func(a *Action) {
					do := a.Do
					a.Do = func(ctx context.Context, say func(string)) error {
						s.backend.t.Edits++
						return do(ctx, say)
					}
				})
			},
			ended: EndedStopped, why: "somebody else changed the spec in the middle of the step",
			after: func(t *testing.T, s *scene) {
				if n := len(s.backend.t.Replaced); n != 3 { // two canaries, and the one during which it was edited
					t.Errorf("%d places filled anew; want 3", n)
				}
				if r := s.run(t); r.Ended != EndedStopped || len(r.Changed) != 1 {
					t.Errorf("another run ended %+v; want that it says what changed", r)
				}
			},
		},
		{
			name: "a node of before that the autoscaler adds during the roll is replaced, too",
			spoil: func(_ *testing.T, s *scene) {
				added := false
				s.during("roll-workers", func(a *Action) {
					do := a.Do
					a.Do = func(ctx context.Context, say func(string)) error {
						if !added {
							added = true
							s.backend.t.Workers = append(s.backend.t.Workers, fakeNode{Name: "scaled", Group: "nodes-a", Place: "scaled"})
						}
						return do(ctx, say)
					}
				})
			},
			ended: EndedDone,
			after: func(t *testing.T, s *scene) {
				if s.backend.t.Replaced["scaled"] != 1 {
					t.Errorf("replaced %v; want the added one among them", s.backend.t.Replaced)
				}
			},
		},
		{
			name: "an action that the world undoes again and again stops",
			spoil: func(_ *testing.T, s *scene) {
				s.during("expose", func(a *Action) { a.Do = func(context.Context, func(string)) error { return nil } })
			},
			ended: EndedStopped, why: "was done 3 times and is not done",
		},
		{
			name: "an action that does not end is ended, and stops",
			spoil: func(_ *testing.T, s *scene) {
				s.during("expose", func(a *Action) {
					a.Limit = time.Minute
					a.Do = func(ctx context.Context, _ func(string)) error { <-ctx.Done(); return ctx.Err() }
				})
			},
			ended: EndedStopped, why: "not done after 1m0s",
		},
		{
			name: "a cluster that cannot be seen stops",
			spoil: func(_ *testing.T, s *scene) {
				s.during("canary", func(a *Action) {
					a.Gates = append(a.Gates, answers("blinds the executor", 0, func() (report.Verdict, string) {
						s.executor.lookErr = errors.New("503 Service Unavailable")
						return report.Pass, "from now on"
					}))
				})
			},
			ended: EndedStopped, why: "look at atlas.k8s.local: 503 Service Unavailable",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.release(t)
				tt.spoil(t, s)
				r := s.run(t)
				if r.Ended != tt.ended || !strings.Contains(r.Why, tt.why) {
					t.Errorf("ended %+v; want %s, %q", r, tt.ended, tt.why)
				}
				p := s.position(t)
				if p.ended != tt.ended || !strings.Contains(p.why, tt.why) {
					t.Errorf("the journal says it ended %s, %q", p.ended, p.why)
				}
				if tt.after != nil {
					tt.after(t, s)
				}
			})
		})
	}
}

func TestAnInterruptionEndsTheActionCleansUpAndIsJournalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		ctx, interrupt := context.WithCancel(t.Context())
		s.during("canary", func(a *Action) {
			a.Do = func(ctx context.Context, _ func(string)) error {
				interrupt()
				<-ctx.Done()
				return ctx.Err()
			}
		})
		r, err := Run(ctx, s.cfg)
		if !errors.Is(err, context.Canceled) || r.Ended != EndedInterrupted {
			t.Errorf("%+v, %v; want interrupted", r, err)
		}
		if len(s.executor.aborted) != 1 {
			t.Errorf("tidied up %v; want the canary", s.executor.aborted)
		}
		entries := s.record(t).Entries
		if e := entries[len(entries)-1]; e.Kind != journal.Ended || e.Result != EndedInterrupted {
			t.Errorf("the journal ends with %+v", e)
		}
		if e := entries[len(entries)-2]; e.Kind != journal.Outcome || e.Result != EndedInterrupted {
			t.Errorf("before it stands %+v", e)
		}
		s.executor.hook = nil
		if r := s.run(t); r.Ended != EndedDone {
			t.Errorf("then it ended %+v", r)
		}
	})
}

func TestAPlanIsRefusedWhenTheClusterHasChangedSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.backend.t.Edits++
		s.cfg.Called = "atlas.k8s.local --state file:///srv/state"
		_, err := Run(t.Context(), s.cfg)
		var refused *RefusedError
		if !errors.As(err, &refused) || len(refused.Changed) != 1 {
			t.Fatalf("%v; want a refusal that says what changed", err)
		}
		if want := "make a new one: muster plan cluster atlas.k8s.local --state file:///srv/state --to none -o plan.yaml"; refused.Next != want {
			t.Errorf("next %q, want %q", refused.Next, want)
		}
		if ids, err := Runs(t.Context(), s.store, "atlas.k8s.local"); err != nil || len(ids) > 0 {
			t.Errorf("a refused plan left %v, %v", ids, err)
		}
	})
}

func TestAPlanIsRefusedWhileAnotherIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.run(t) // up to the first hold
		other := s.cfg
		other.Plan = plan.Seal(other.Plan.Plan, s.backend.t.facts())
		if _, err := Run(t.Context(), other); !isRefused(err) || !strings.Contains(err.Error(), RunID(s.plan)) {
			t.Errorf("%v; want a refusal that names the run under way", err)
		}
	})
}

func TestGatesThatStoppedARunAreCheckedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		verdict := report.Fail
		s.during("canary", func(a *Action) {
			a.Gates = append(a.Gates, answers("it joined through the load balancer", 0, func() (report.Verdict, string) { return verdict, "it says so" }))
		})
		for range 2 { // the world shows the canary done, and its gate has not passed
			if r := s.run(t); r.Ended != EndedStopped || !strings.Contains(r.Why, "joined through") {
				t.Fatalf("ended %+v; want stopped by the gate", r)
			}
		}
		verdict = report.Pass
		if r := s.run(t); r.Ended != EndedDone {
			t.Errorf("then it ended %+v", r)
		}
	})
}

// Whatever fails whenever: no two writers, no step before its needs, and in the
// end the same.
func TestRandomFaultsLeadToTheSameEnd(t *testing.T) {
	var want *scene
	synctest.Test(t, func(t *testing.T) {
		want = newScene()
		want.release(t)
		want.run(t)
	})
	story := killtest.Story(want.record(t).Entries)
	rapid.Check(t, func(rt *rapid.T) {
		bad := rapid.SliceOfN(rapid.IntRange(0, 60), 0, 6).Draw(rt, "gates that do not pass")
		fails := rapid.SliceOfN(rapid.IntRange(0, 40), 0, 4).Draw(rt, "actions that fail")
		slow := rapid.IntRange(1, 200).Draw(rt, "first write without an answer")
		synctest.Test(t, func(t *testing.T) {
			s := newScene()
			s.release(t)
			s.cfg.Store = faulty{s.store, slow, slow + 3, new(int)}
			gates, actions := 0, 0
			s.executor.hook = func(_ string, a *Action) {
				a.Gates = append(a.Gates, answers("by chance", 0, func() (report.Verdict, string) {
					gates++
					for _, n := range bad {
						if n == gates {
							return report.Unknown, "by chance"
						}
					}
					return report.Pass, "by chance"
				}))
				if do := a.Do; do != nil {
					a.Do = func(ctx context.Context, say func(string)) error {
						actions++
						for _, n := range fails {
							if n == actions {
								return errors.New("by chance")
							}
						}
						return do(ctx, say)
					}
				}
			}
			var r Result
			for range 1 + len(bad) + len(fails) {
				if r = s.run(t); r.Ended == EndedDone {
					break
				}
			}
			if r.Ended != EndedDone {
				t.Fatalf("ended %+v", r)
			}
			sameEnd(t, "by chance", story, want, s)
			needsHeld(t, s)
		})
	})
}

// needsHeld reads from the journal that every step began after its needs had
// passed, and ended before the next one began.
func needsHeld(t *testing.T, s *scene) {
	t.Helper()
	passed := map[string]bool{}
	for _, e := range s.record(t).Entries {
		var asked report.Asked
		if e.Kind == journal.Gate && e.Action == "" && e.Result == string(report.Pass) {
			if err := detail(e, &asked); err != nil {
				t.Fatal(err)
			}
			passed[e.Step+asked.Name] = true
		}
		if e.Kind != journal.Intent || e.Action != "" {
			continue
		}
		for _, step := range s.plan.Steps {
			if report.StepKey(step) != e.Step {
				continue
			}
			for _, need := range step.Gates {
				if !passed[e.Step+need] {
					t.Errorf("step %s began before %q had passed", e.Step, need)
				}
			}
		}
	}
}
